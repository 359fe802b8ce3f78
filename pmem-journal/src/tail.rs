//! The segment that is being written, for those who read in the writer's process: where its events stand, which no index
//! speaks of before it is sealed. What reading has come by is kept; what has been appended since is read when it is asked for.
//!
//! In memory, and of one segment only: 16 bytes for every [`STRIDE`] events that were read, and, from the first selection on,
//! four for each event and each tag, with a place in a map for each entity and each tag (about a hundred bytes; vectors have
//! up to twice the room that they need).
//!
//! A reader in another process has none: the segment may be cut by a writer that it doesn't know of.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::filter::hash_tag;
use crate::reader::Reader;
use crate::segment::Header;
use crate::select::Selection;

/// Events from one whose place is kept to the next.
const STRIDE: u64 = 32;

/// What is known of the segment.
#[derive(Default)]
pub(crate) struct Tail {
    marks: Mutex<Marks>,
    lists: Mutex<Lists>,
}

/// Places of some events, in order.
#[derive(Default)]
struct Marks {
    segment: u64,
    /// Position, and offset in the segment.
    places: Vec<(u64, u64)>,
}

/// Events of each entity and of each tag, as numbers from the segment's first on, in order.
#[derive(Default)]
struct Lists {
    segment: u64,
    entities: HashMap<u128, Vec<u32>>,
    /// By the tag's hash: those with the tag, and perhaps others.
    tags: HashMap<u64, Vec<u32>>,
    /// Position of the first event that is not listed.
    until: u64,
}

/// Which events of the segment to look at.
pub(crate) struct Listed {
    /// Their positions, the first of them at the back.
    pub(crate) positions: Vec<u64>,
    /// From here on all.
    pub(crate) until: u64,
}

impl Tail {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offset of an event at or below `position`, if one is known.
    pub(crate) fn start_below(&self, segment: u64, position: u64) -> Option<u64> {
        let marks = self.marks();
        if marks.segment != segment {
            return None;
        }
        let after = marks.places.partition_point(|(at, _)| *at <= position);
        Some(marks.places[after.checked_sub(1)?].1)
    }

    /// Position of the next event whose place is wanted. Places are told in order, by those who read on from one that is known.
    pub(crate) fn wanted(&self, header: &Header) -> u64 {
        self.marks().wanted(header)
    }

    /// Keeps the place of an event; which is wanted next.
    pub(crate) fn note(&self, header: &Header, position: u64, offset: u64) -> u64 {
        let mut marks = self.marks();
        if header.index > marks.segment {
            *marks = Marks {
                segment: header.index,
                places: Vec::new(),
            };
        }
        // Another thread may have told of it.
        if position >= marks.wanted(header) {
            marks.places.push((position, offset));
        }
        marks.wanted(header)
    }

    /// The events of the segment, at `from` and after, among which all of the selection are. What is durable and not listed yet
    /// is read first. `None`: the segment is not the one that is being written.
    pub(crate) fn list(
        &self,
        reader: &Reader,
        header: &Header,
        limit: u64,
        selection: &Selection,
        from: u64,
    ) -> Result<Option<Listed>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if header.index > lists.segment || lists.until == 0 {
            *lists = Lists {
                segment: header.index,
                until: header.first_position,
                ..Lists::default()
            };
        }
        if header.index != lists.segment {
            return Ok(None);
        }
        lists.extend(reader, header, limit)?;
        let numbers = match selection {
            Selection::Entity(entity) => lists.entities.get(&entity.0),
            Selection::Tag(tag) => lists.tags.get(&hash_tag(tag.as_bytes())),
            Selection::All => return Ok(None),
        };
        let numbers = numbers.map_or(&[][..], Vec::as_slice);
        let first = header.first_position;
        let before = numbers.partition_point(|number| first + u64::from(*number) < from);
        let positions = numbers[before..].iter().rev();
        Ok(Some(Listed {
            positions: positions.map(|number| first + u64::from(*number)).collect(),
            until: lists.until,
        }))
    }
}

impl Marks {
    fn wanted(&self, header: &Header) -> u64 {
        let last = self.places.last().filter(|_| self.segment == header.index);
        match last {
            Some((position, _)) => position + STRIDE,
            None if self.segment > header.index => u64::MAX,
            None => header.first_position + STRIDE,
        }
    }
}

impl Lists {
    /// Lists what is durable below `limit` and not listed yet.
    fn extend(&mut self, reader: &Reader, header: &Header, limit: u64) -> Result<()> {
        let mut replay = reader.replay_from(Some(self.until), limit)?;
        while replay.advance()? {
            let event = replay
                .last_event()
                .filter(|_| replay.open.header.index == header.index);
            let Some(event) = event else {
                break;
            };
            // It fits: a segment has at most 1 GiB.
            let number = (event.position - header.first_position) as u32;
            self.entities.entry(event.entity.0).or_default().push(number);
            for tag in event.tags() {
                let with_tag = self.tags.entry(hash_tag(tag.as_bytes())).or_default();
                if with_tag.last() != Some(&number) {
                    with_tag.push(number);
                }
            }
            self.until = event.position + 1;
        }
        Ok(())
    }
}

//! Events of one entity or with one tag: of sealed segments found by their indexes, of the one that is being written by what is
//! known of it in the writer's process (`tail.rs`), or by reading it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::{EntityId, OwnedEvent, Recorded};
use crate::indexes::Indexed;
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::open_segment::OpenSegment;
use crate::reader::Reader;
use crate::replay::Replay;
use crate::scan::{Checks, Scanner, Step};
use crate::sealed_records::Sealed;
use crate::segment_index::Places;
use crate::tail::Listed;

/// Which events to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those of an entity.
    Entity(EntityId),
    /// Those with a tag.
    Tag(String),
}

impl Selection {
    fn wants(&self, event: &Recorded<'_>) -> bool {
        match self {
            Selection::All => true,
            Selection::Entity(entity) => event.entity == *entity,
            Selection::Tag(tag) => event.tags().any(|t| t == tag),
        }
    }
}

/// Selected events, in the order of their positions.
pub struct Selected {
    reader: Reader,
    selection: Selection,
    from: u64,
    limit: u64,
    /// Sealed segments still to be looked into, newest first.
    ahead: Vec<u64>,
    /// The segment whose index is being followed.
    within: Option<Within>,
    /// From the first segment that no index speaks of.
    rest: Option<Rest>,
    /// First position of that segment.
    rest_from: u64,
}

/// Events that no index speaks of.
struct Rest {
    replay: Replay,
    /// Which of them to look at; `None`: at all.
    listed: Option<Listed>,
}

impl Rest {
    fn new(reader: &Reader, selection: &Selection, from: Option<u64>, limit: u64) -> Result<Rest> {
        let replay = reader.replay_from(from, limit)?;
        let header = &replay.open.header;
        let listed = match reader.tail() {
            Some(tail) if *selection != Selection::All && !replay.open.is_whole_below(limit) => {
                tail.list(reader, header, limit, selection, replay.position())?
            }
            _ => None,
        };
        Ok(Rest { replay, listed })
    }

    fn advance(&mut self) -> Result<bool> {
        let Some(listed) = &mut self.listed else {
            return self.replay.advance();
        };
        let Some(position) = listed.positions.last() else {
            self.replay.skip_to(listed.until)?;
            self.listed = None;
            return self.replay.advance();
        };
        self.replay.skip_to(*position)?;
        // What others have listed may be past what was durable when this began.
        let is_there = self.replay.advance()?;
        if is_there {
            listed.positions.pop();
        }
        Ok(is_there)
    }
}

struct Within {
    indexed: Arc<Indexed>,
    places: Places,
    /// Offsets of the next ones, the first of them at the back.
    offsets: Vec<u64>,
    scanner: Scanner,
}

impl Reader {
    /// The selected events at position `from` and after, up to what is durable now; `None` begins with the first
    /// event kept. If events from `from` on were dropped the answer is [`Error::BelowFirst`].
    pub fn select(&self, selection: Selection, from: Option<u64>) -> Result<Selected> {
        let limit = self.durable_limit()?;
        let medium = FileMedium::new(self.dir());
        let mut ahead = Vec::new();
        let mut rest_from = from;
        if selection != Selection::All {
            // From the back: the first segment that is not whole is the last one, or the last but one.
            for index in Listing::read(&medium)?.segments.into_iter().rev() {
                let open = OpenSegment::open(&medium, index)?;
                let first = open.header.first_position;
                if !open.is_whole_below(limit) {
                    rest_from = Some(first);
                } else {
                    if ahead.is_empty() {
                        rest_from = open.footer.map(|footer| footer.next_position).or(rest_from);
                    }
                    ahead.push(index);
                }
                if from.is_some_and(|from| first <= from) {
                    break;
                }
            }
            if let (Some(from), Some(oldest)) = (from, ahead.last()) {
                let first = OpenSegment::open(&medium, *oldest)?.header.first_position;
                if from < first {
                    return Err(Error::BelowFirst { asked: from, first });
                }
            }
            if ahead.is_empty() {
                rest_from = from;
            }
        }
        let rest = if ahead.is_empty() {
            Some(Rest::new(self, &selection, rest_from, limit)?)
        } else {
            None
        };
        Ok(Selected {
            reader: self.clone(),
            selection,
            from: from.unwrap_or(0),
            limit,
            ahead,
            within: None,
            rest,
            rest_from: rest_from.unwrap_or(0),
        })
    }
}

impl Selected {
    /// The next event, or `None` at the end of what was durable when this began or was last refreshed.
    pub fn next_event(&mut self) -> Result<Option<Recorded<'_>>> {
        Ok(if self.advance()? { self.last_event() } else { None })
    }

    /// Moves past the next event; false at the end.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(rest) = &mut self.rest {
                if !rest.advance()? {
                    return Ok(false);
                }
            } else if !self.next_place()? {
                continue;
            }
            let wanted = |event: Recorded<'_>| event.position >= self.from && self.selection.wants(&event);
            if self.last_event().is_some_and(wanted) {
                return Ok(true);
            }
        }
    }

    /// The event moved past last.
    pub(crate) fn last_event(&self) -> Option<Recorded<'_>> {
        match (&self.rest, &self.within) {
            (Some(rest), _) => rest.replay.last_event(),
            (None, Some(within)) => within.scanner.last_event(),
            (None, None) => None,
        }
    }

    /// Moves past the event at the next place; false if another segment has to be entered first.
    fn next_place(&mut self) -> Result<bool> {
        let Some(within) = &mut self.within else {
            match self.ahead.pop() {
                Some(index) => self.within = Some(self.enter(index)?),
                None => {
                    let from = self.rest_from.max(self.from);
                    let rest = Rest::new(&self.reader, &self.selection, Some(from), self.limit)?;
                    self.rest = Some(rest);
                }
            }
            return Ok(false);
        };
        let segment = &within.indexed.segment;
        if within.offsets.is_empty() {
            let own = &within.indexed;
            let next = match own.index.next_places(&within.places) {
                Ok(next) => next,
                // A damaged index is made again, unless the segment has been compacted or dropped.
                Err(_) => self.reader.indexes().look(segment.header.index, |at| {
                    let at = if at.is_of(&segment.header, &segment.footer) {
                        at
                    } else {
                        own
                    };
                    at.index.next_places(&within.places)
                })?,
            };
            within.places.skip(next.len());
            within.offsets = next;
            within.offsets.reverse();
        }
        let Some(offset) = within.offsets.pop() else {
            self.within = None;
            return Ok(false);
        };
        within.scanner.jump(offset);
        match within
            .scanner
            .step(&*segment.file)
            .map_err(Error::io("read", &segment.name))?
        {
            Step::Record => Ok(true),
            Step::End => Err(segment.corrupt(offset, "nothing is written where an event was indexed")),
            Step::Invalid(cause) => Err(segment.corrupt(offset, cause)),
        }
    }

    fn enter(&self, index: u64) -> Result<Within> {
        let indexes = self.reader.indexes();
        let from = self.from;
        let found = indexes.look(index, |at| {
            let mut places = match &self.selection {
                Selection::Entity(entity) => at.index.of_entity(entity.0)?,
                Selection::Tag(tag) => at.index.of_tag(tag)?,
                Selection::All => Places::none(),
            };
            if let Some(start) = at.index.start_below(from)? {
                at.index.skip_to(&mut places, start)?;
            }
            Ok((places, Arc::clone(at)))
        });
        let (places, indexed) = found.map_err(|e| self.reader.dropped(from, e))?;
        let Sealed { header, footer, .. } = &indexed.segment;
        let mut scanner = Scanner::new(header, footer.end, Checks::ALL);
        scanner.read_little();
        Ok(Within {
            places,
            offsets: Vec::new(),
            scanner,
            indexed,
        })
    }

    /// Looks again how far the journal is durable; true if there is more than before.
    pub fn refresh(&mut self) -> Result<bool> {
        match &mut self.rest {
            Some(rest) => rest.replay.refresh(),
            // The rest begins at the limit that was in force.
            None => Ok(self.reader.durable_limit()? > self.limit),
        }
    }

    /// Log position up to which it reads.
    pub(crate) fn limit(&self) -> u64 {
        self.rest.as_ref().map_or(self.limit, |rest| rest.replay.limit())
    }

    /// The events as an iterator of owned copies; it ends after the first error.
    pub fn owned(self) -> impl Iterator<Item = Result<OwnedEvent>> {
        let mut selected = Some(self);
        std::iter::from_fn(move || {
            let next = selected
                .as_mut()?
                .next_event()
                .map(|event| event.map(|event| event.to_owned()));
            if next.is_err() {
                selected = None;
            }
            next.transpose()
        })
    }
}

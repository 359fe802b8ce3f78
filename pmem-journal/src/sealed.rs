//! Sealed segments: which there are, and dropping the oldest of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::floor::{self, Floor};
use crate::indexes::Indexes;
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::reader::Reader;
use crate::reserve::Reserve;
use crate::sealed_records::Sealed;
use crate::segment;

/// A segment that is full: its events are durable, and its bytes change no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedSegment {
    /// Its number; segments are numbered without gaps.
    pub index: u64,
    /// Its file, or the link to it where it lies in another directory.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Position of its first event (equal to `next_position` if it holds none).
    pub first_position: u64,
    /// Position of the first event after it.
    pub next_position: u64,
    /// Time of the last event up to its end; the epoch of 1970 if there was none yet.
    pub newest: SystemTime,
    /// Events were taken out of it.
    pub compacted: bool,
}

impl Reader {
    /// The sealed segments, oldest first; read from their headers and footers alone.
    pub fn sealed_segments(&self) -> Result<Vec<SealedSegment>> {
        let medium = FileMedium::new(self.dir());
        let mut sealed = Vec::new();
        for index in Listing::read(&medium)?.segments {
            let Some(Sealed { header, footer, .. }) = Sealed::open(&medium, index)? else {
                break;
            };
            sealed.push(SealedSegment {
                index,
                path: self.dir().join(segment::name(index)),
                bytes: header.size,
                first_position: header.first_position,
                next_position: footer.next_position,
                newest: SystemTime::UNIX_EPOCH + Duration::from_nanos(footer.timestamp),
                compacted: header.compacted,
            });
        }
        Ok(sealed)
    }
}

impl Journal {
    /// Drops the sealed segments whose events are all below `position`, oldest first, and says how many went.
    ///
    /// Entities go on at their sequences; idempotency keys of dropped events are forgotten; reading below answers
    /// [`Error::BelowFirst`]. It is durable before anything is removed, and a crash in between removes the rest at
    /// the next open. Appending goes on meanwhile. It needs 64 bytes of memory for every entity dropped so far.
    pub fn drop_segments_below(&self, position: u64) -> Result<u64> {
        let _one = self.dropping.lock().unwrap_or_else(PoisonError::into_inner);
        let indexes = {
            let state = self.lock();
            state.refuse_if_poisoned()?;
            Arc::clone(state.index.indexes())
        };
        let dropped = drop_below(&self.reserve, &indexes, position, |first, floor| {
            self.lock().index.dropped(first, floor);
        });
        self.reserve.refill();
        dropped
    }
}

/// The whole of dropping, on any medium. `settled` is told of the floor before anything below it is removed.
pub(crate) fn drop_below(
    reserve: &Reserve,
    indexes: &Indexes,
    position: u64,
    settled: impl FnOnce(u64, Floor),
) -> Result<u64> {
    let medium = reserve.medium();
    let listing = Listing::read(medium)?;
    let mut compacted = Vec::new();
    for index in &listing.segments {
        match Sealed::open(medium, *index)? {
            Some(segment) if segment.footer.next_position <= position => {
                compacted.push(segment.header.compacted);
            }
            _ => break,
        }
    }
    // The segment written to is never sealed, and so never dropped; nor is the last.
    let dropped = compacted.len().min(listing.segments.len().saturating_sub(1));
    if dropped == 0 {
        return Ok(0);
    }
    let mut sequences = BTreeMap::new();
    let mut gaps = compacted[..dropped].contains(&true);
    if let Some(first) = listing.floor {
        let floor = Floor::open(medium, first)?;
        gaps |= floor.has_gaps();
        floor.for_each(|entity, sequence| {
            sequences.insert(entity, sequence);
        })?;
    }
    for index in &listing.segments[..dropped] {
        let of_segment = indexes.look(*index, |at| {
            let mut rows = Vec::new();
            at.index
                .for_each_entity(|entity, sequence| rows.push((entity, sequence)))?;
            Ok(rows)
        })?;
        sequences.extend(of_segment);
    }
    let first = listing.segments[dropped];
    let (_, _, header) = segment::open(medium, first)?;
    floor::store(reserve, &header, &sequences, gaps)?;
    settled(first, Floor::open(medium, first)?);
    for name in medium
        .list()
        .map_err(Error::io("list", "the journal's directory"))?
    {
        if floor::is_below(&name, first) {
            medium.remove(&name).map_err(Error::io("remove", name))?;
        }
    }
    Ok(dropped as u64)
}

//! Sealed segments: which there are, and dropping the oldest of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::floor::{self, Floor};
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium};
use crate::reader::Reader;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, Footer, Header};

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
            let Some((header, footer)) = ends(&medium, index)? else {
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

/// Header and footer of a segment; `None` if it is not sealed.
fn ends(medium: &dyn Medium, index: u64) -> Result<Option<(Header, Footer)>> {
    let name = segment::name(index);
    let file = medium
        .open(&name, Access::Read)
        .map_err(Error::io("open", &name))?;
    let header = Header::read(&*file, &name)?;
    let footer = Footer::read(&*file, &header).map_err(Error::io("read", name))?;
    Ok(footer.map(|footer| (header, footer)))
}

impl Journal {
    /// Drops the sealed segments whose events are all below `position`, oldest first, and says how many went.
    ///
    /// Entities go on at their sequences; idempotency keys of dropped events are forgotten; reading below answers
    /// [`Error::BelowFirst`]. It is durable before anything is removed, and a crash in between removes the rest at
    /// the next open. Appending goes on meanwhile. It needs 32 bytes of memory for every entity dropped so far.
    pub fn drop_segments_below(&self, position: u64) -> Result<u64> {
        let _one = self
            .dropping
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let medium = {
            let state = self.lock();
            state.refuse_if_poisoned()?;
            Arc::clone(&state.medium)
        };
        drop_below(&*medium, position)
    }
}

/// The whole of dropping, on any medium.
pub(crate) fn drop_below(medium: &dyn Medium, position: u64) -> Result<u64> {
    let listing = Listing::read(medium)?;
    let mut sequences = BTreeMap::new();
    let mut dropped = 0;
    for index in &listing.segments {
        match ends(medium, *index)? {
            Some((_, footer)) if footer.next_position <= position => dropped += 1,
            _ => break,
        }
    }
    // The segment written to is never sealed, and so never dropped; nor is the last.
    let dropped = dropped.min(listing.segments.len().saturating_sub(1));
    if dropped == 0 {
        return Ok(0);
    }
    if let Some(first) = listing.floor {
        Floor::open(medium, first)?.for_each(|entity, sequence| {
            sequences.insert(entity, sequence);
        })?;
    }
    for index in &listing.segments[..dropped] {
        last_sequences(medium, *index, &mut sequences)?;
    }
    let first = listing.segments[dropped];
    let name = segment::name(first);
    let file = medium
        .open(&name, Access::Read)
        .map_err(Error::io("open", &name))?;
    floor::store(medium, &Header::read(&*file, &name)?, &sequences)?;
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

fn last_sequences(medium: &dyn Medium, index: u64, sequences: &mut BTreeMap<u128, u64>) -> Result<()> {
    let name = segment::name(index);
    let file = medium
        .open(&name, Access::Read)
        .map_err(Error::io("open", &name))?;
    let header = Header::read(&*file, &name)?;
    let footer = Footer::read(&*file, &header).map_err(Error::io("read", &name))?;
    let mut scanner = Scanner::new(&header, footer.map_or(0, |footer| footer.end), Checks::ALL);
    loop {
        let cause = match scanner.step(&*file).map_err(Error::io("read", &name))? {
            Step::Record(record, _) => {
                if !record.is_control() {
                    sequences.insert(record.entity, record.sequence);
                }
                continue;
            }
            Step::End if scanner.offset == scanner.end => return Ok(()),
            Step::End => "nothing is written where something was durable".to_owned(),
            Step::Invalid(cause) => cause.to_string(),
        };
        return Err(Error::Corruption {
            segment: name,
            offset: scanner.offset,
            cause,
        });
    }
}

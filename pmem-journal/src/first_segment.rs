//! The segment in which a new epoch begins: the last one that was written, or one after it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{self, JournalId};
use crate::medium::{Access, Medium};
use crate::recover::{Active, Recovered};
use crate::rotation::{make_segment, seal};
use crate::segment::{self, DATA, Header, Segment};
use crate::spare::SpareMaker;

/// Where the epoch begins.
pub(crate) struct Start {
    pub(crate) segment: Segment,
    /// Offset in the segment of the next record.
    pub(crate) offset: u64,
    /// The segment was made for it: its header carries the epoch already.
    pub(crate) fresh: bool,
}

/// In a journal that has segments: after what was recovered.
pub(crate) fn go_on(
    medium: &dyn Medium,
    spare: &mut SpareMaker,
    dir: &Path,
    recovered: &Recovered,
    active: &Active,
) -> Result<Start> {
    let name = segment::name(active.header.index);
    let file = medium
        .open(&name, Access::Write)
        .map_err(Error::io("open for writing", &name))?;
    // What a dead writer wrote may still be in a cache: it counts only once it is durable. The name of
    // this segment may be all that its rotation got done, too.
    file.sync().map_err(Error::io("sync", &name))?;
    medium.sync_dir().map_err(Error::io("sync", dir))?;
    let header = active.header;
    let last = Segment { header, file };
    // An epoch record, and the close record after it.
    let full = active.sealed || active.offset + format::HEADER as u64 > header.events_end();
    if !full {
        return Ok(Start {
            segment: last,
            offset: active.offset,
            fresh: false,
        });
    }
    let next = Header {
        index: header.index + 1,
        base: active.log_end,
        first_position: recovered.report.next_position,
        size: spare.size(),
        epoch: recovered.epoch + 1,
        compacted: false,
        ..header
    };
    if !active.sealed {
        seal(
            &last,
            active.offset,
            next.first_position,
            recovered.epoch,
            recovered.timestamp,
        )
        .map_err(Error::io("seal", &name))?;
    }
    Ok(Start {
        segment: make_segment(medium, spare, next, dir)?,
        offset: DATA,
        fresh: true,
    })
}

/// In a directory without segments: in the first of a new journal.
pub(crate) fn begin(medium: &dyn Medium, spare: &mut SpareMaker, dir: &Path, epoch: u32) -> Result<Start> {
    let mut journal = JournalId::default();
    getrandom::fill(&mut journal)
        .map_err(|e| Error::io("get randomness for", dir)(std::io::Error::other(e)))?;
    let header = Header {
        journal,
        index: 0,
        size: spare.size(),
        base: 0,
        first_position: 0,
        epoch,
        compacted: false,
    };
    Ok(Start {
        segment: make_segment(medium, spare, header, dir)?,
        offset: DATA,
        fresh: true,
    })
}

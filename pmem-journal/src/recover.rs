//! What a journal holds after whatever happened to its writer.
//!
//! Recovery only reads, and always with pread. It never guesses: every byte of the log is a valid record, the tail
//! that a crash tore, or corruption, by this table.
//!
//! | where the first invalid record X is | what else is known | decision |
//! | --- | --- | --- |
//! | in a segment that is not the last | a later segment exists, so X was durable | corruption |
//! | in the last segment, before the end its footer names | the footer is written after the records | corruption |
//! | in the last segment | a record past X, right by its own epoch's checksum, knew a durable position past X | corruption |
//! | in the last segment | past X more look-alikes than can be checked in bounded time | corruption |
//! | in the last segment | none of these | torn tail: cut at X |
//! | a valid batch without its end | as if its first record were X | as above |
//!
//! A torn tail needs no erasing: whoever opens next writes an epoch record at the cut and makes it durable before any
//! append, and what lies beyond carries checksums of older epochs.

mod one_segment;

pub(crate) use one_segment::{Part, scan_segment};

use crate::error::{Error, Result};
use crate::floor::Floor;
use crate::format::{Header as Record, Invalid};
use crate::listing::Listing;
use crate::medium::Medium;
use crate::options::Progress;
use crate::scan::Checks;
use crate::sealed_records::Sealed;
use crate::segment::{self, Header};

/// What recovery found, for a person or a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Events in the journal.
    pub events: u64,
    /// Position of the oldest event kept (equal to `next_position` if there is none).
    pub first_position: u64,
    /// Position the next event will get.
    pub next_position: u64,
    /// Segments.
    pub segments: u64,
    /// The last writer closed the journal in good order.
    pub clean: bool,
    /// The tail that was cut, if there was something to cut.
    pub torn: Option<Torn>,
}

/// A tail that a crash tore: it was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// File name of the segment.
    pub segment: String,
    /// Offset of the cut.
    pub offset: u64,
    /// What is wrong with the first record beyond.
    pub cause: String,
}

/// The segment that appends go on in.
pub(crate) struct Active {
    pub(crate) header: Header,
    /// Offset of the next record.
    pub(crate) offset: u64,
    /// Log position of the next record.
    pub(crate) log_end: u64,
    pub(crate) sealed: bool,
}

/// All that a writer needs to go on.
pub(crate) struct Recovered {
    pub(crate) report: Recovery,
    pub(crate) active: Option<Active>,
    pub(crate) epoch: u32,
    pub(crate) timestamp: u64,
    /// Index of the first segment kept.
    pub(crate) first: u64,
    pub(crate) floor: Option<Floor>,
}

/// Is told of each event while a segment is read.
pub(crate) trait Learner {
    /// The next event's header and whole record; an error says why it cannot follow what was learned.
    fn learn(&mut self, header: &Record, record: &[u8]) -> std::result::Result<(), Invalid>;
    /// The batch that was being learned turned out to be unfinished.
    fn forget_batch(&mut self);
}

/// For those who only want to know where the end is.
impl Learner for () {
    fn learn(&mut self, _: &Record, _: &[u8]) -> std::result::Result<(), Invalid> {
        Ok(())
    }

    fn forget_batch(&mut self) {}
}

impl Recovered {
    pub(crate) fn nothing(segments: usize) -> Recovered {
        Recovered {
            report: Recovery {
                events: 0,
                first_position: 0,
                next_position: 0,
                segments: segments as u64,
                clean: true,
                torn: None,
            },
            active: None,
            epoch: 0,
            timestamp: 0,
            first: 0,
            floor: None,
        }
    }
}

/// Makes the last segment durable and says up to which log position it is valid. For readers without a writer.
pub(crate) fn recover_last(medium: &dyn Medium) -> Result<u64> {
    let Some(index) = Listing::read(medium)?.segments.pop() else {
        return Ok(0);
    };
    let (name, file, header) = segment::open(medium, index)?;
    match file.sync() {
        // What is on a read-only file system is as durable as it will ever be.
        Err(e) if e.kind() != std::io::ErrorKind::ReadOnlyFilesystem => {
            return Err(Error::io("sync", &name)(e));
        }
        _ => {}
    }
    let mut out = Recovered::nothing(1);
    let part = Part {
        file: &*file,
        name: &name,
        header,
        last: true,
    };
    scan_segment(&part, Checks::ALL, &mut out, &mut (), &|_| {})?;
    Ok(out.active.map_or(header.base, |active| active.log_end))
}

/// Finds where to go on: reads the last segment, and of the others the first one's header and the last but one's ends.
///
/// So it takes as long as one segment takes, whatever the size of the log. Damage in older segments is found by who
/// reads them, or by verifying.
pub(crate) fn recover(
    medium: &dyn Medium,
    checks: Checks,
    learner: &mut dyn Learner,
    progress: &dyn Fn(Progress),
) -> Result<Recovered> {
    let Listing { floor, segments } = Listing::read(medium)?;
    let mut out = Recovered::nothing(segments.len());
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Ok(out);
    };
    out.first = *first;
    out.floor = floor.map(|first| Floor::open(medium, first)).transpose()?;
    let (name, _, header) = segment::open(medium, *first)?;
    if let Some(floor) = &out.floor {
        floor.check(&header)?;
    } else if header.first_position != 0 || header.base != 0 {
        return Err(does_not_follow(&name));
    }
    out.report.first_position = header.first_position;
    out.report.next_position = header.first_position;
    if last > first {
        let before = Sealed::open_followed(medium, last - 1)?;
        if before.header.journal != header.journal {
            return Err(does_not_follow(&before.name));
        }
        out.report.next_position = before.footer.next_position;
        out.epoch = before.footer.epoch;
        out.timestamp = before.footer.timestamp;
        out.active = Some(Active {
            header: before.header,
            offset: before.footer.end,
            log_end: before.footer.log_end,
            sealed: true,
        });
    }
    let (name, file, header) = segment::open(medium, *last)?;
    follows(&out, &header, &name)?;
    let part = Part {
        file: &*file,
        name: &name,
        header,
        last: true,
    };
    scan_segment(&part, checks, &mut out, learner, progress)?;
    out.report.events = out.report.next_position - out.report.first_position;
    Ok(out)
}

pub(crate) fn does_not_follow(name: &str) -> Error {
    Error::corruption(
        name,
        0,
        "it does not go on where the segment before ended (another journal's, or an old copy)",
    )
}

/// The header must go on exactly where the segment before ended.
pub(crate) fn follows(before: &Recovered, header: &Header, name: &str) -> Result<()> {
    let Some(last) = &before.active else {
        return Ok(());
    };
    let ok = header.journal == last.header.journal
        && header.base == last.log_end
        && header.first_position == before.report.next_position
        && header.epoch >= before.epoch;
    if ok { Ok(()) } else { Err(does_not_follow(name)) }
}

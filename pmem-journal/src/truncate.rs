//! Taking back the newest events of a journal that nobody writes: a decision of a person, never of a program.

use std::path::{Path, PathBuf};

use crate::cursor;
use crate::cut::{self, Cut};
use crate::error::{Error, Result};
use crate::listing::Listing;
use crate::lock::WriterLock;
use crate::medium::Medium;
use crate::medium::file::FileMedium;
use crate::reader::Reader;
use crate::scan::Checks;
use crate::segment;
use crate::verify::verify;

/// What truncating did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncated {
    /// Position of the first event that goes: that of its whole batch.
    pub position: u64,
    /// Position that the journal ended at before.
    pub end: u64,
    /// Segments that go as a whole.
    pub segments: u64,
    /// Snapshots that know events that go.
    pub snapshots: Vec<String>,
    /// Projections that have seen events that go: their cursors will be refused.
    pub projections: Vec<String>,
    /// Where everything was put that went; `None` if nothing was changed.
    pub set_aside: Option<PathBuf>,
}

/// Sets aside the events at `position` and after, with the rest of the first one's batch. With `apply` false it only says
/// what would go.
///
/// It takes the writer's lock, so it is refused while somebody writes, and refuses a journal that does not verify
/// (see [`repair`](crate::repair())). In the middle of a compacted segment nothing can be cut.
pub fn truncate(dir: impl AsRef<Path>, position: u64, apply: bool) -> Result<Truncated> {
    let dir = dir.as_ref();
    if !Reader::has_segments(dir)? {
        return Err(Error::NotAJournal { dir: dir.to_owned() });
    }
    let _lock = WriterLock::take(dir)?;
    let (mut out, aside) = truncate_on(&FileMedium::new(dir), position, apply)?;
    out.set_aside = aside.map(|aside| dir.join(aside));
    Ok(out)
}

/// The whole of truncating, on any medium that nobody else writes. With it, the directory in it where everything was put.
pub(crate) fn truncate_on(
    medium: &dyn Medium,
    position: u64,
    apply: bool,
) -> Result<(Truncated, Option<String>)> {
    if apply {
        cut::settle(medium)?;
    }
    let report = verify(medium, Checks::ALL, &|_| {})?.report;
    if position < report.first_position {
        return Err(Error::BelowFirst {
            asked: position,
            first: report.first_position,
        });
    }
    let mut out = Truncated {
        position: report.next_position,
        end: report.next_position,
        segments: 0,
        snapshots: Vec::new(),
        projections: Vec::new(),
        set_aside: None,
    };
    if position >= report.next_position {
        return Ok((out, None));
    }
    let segments = Listing::read(medium)?.segments;
    let mut found = None;
    for (nth, index) in segments.iter().enumerate() {
        let (name, file, header) = segment::open(medium, *index)?;
        if header.first_position > position {
            break;
        }
        found = Some((nth, name, file, header));
    }
    let Some((nth, name, file, header)) = found else {
        return Err(Error::BelowFirst {
            asked: position,
            first: report.first_position,
        });
    };
    let cut = if header.first_position == position {
        Cut::at_the_start(header)
    } else if header.compacted {
        return Err(Error::CompactedThere {
            position,
            first: header.first_position,
        });
    } else {
        Cut::within(&*file, &name, header, header.data_end(), position)?
    };
    let later = &segments[nth + 1..];
    out.position = cut.position;
    out.segments = later.len() as u64;
    out.snapshots = cut::snapshots_from(medium, &header.journal, cut.position)?;
    for name in cursor::names(medium).map_err(Error::io("list", cursor::DIRECTORY))? {
        if cursor::load(medium, &header.journal, &name).is_ok_and(|cursor| cursor.position > cut.position) {
            out.projections.push(name);
        }
    }
    if !apply {
        return Ok((out, None));
    }
    let aside = cut::make_aside(medium)?;
    cut::apply(medium, &aside, &cut, later)?;
    Ok((out, Some(aside)))
}

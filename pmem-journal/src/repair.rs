//! Making a damaged journal usable again, as far as that can be done: what cannot be kept is set aside and said.
//!
//! A restored backup is better where there is one. Torn tails need no repair: the next open cuts them.

use std::path::{Path, PathBuf};

use crate::cursor;
use crate::cut::{self, Cut};
use crate::error::{Error, Result};
use crate::lock::WriterLock;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium};
use crate::reader::Reader;
use crate::scan::{Checks, Scanner, Step};
use crate::sealed_records::Sealed;
use crate::segment::{self, DATA, Footer, Header};
use crate::snapshot_format::{self, SnapshotChecks};
use crate::snapshot_slots;
use crate::verify::verify;

/// What is wrong, and what repairing does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// A segment's footer is damaged, and all its records are good: it is written again. Nothing is lost.
    Footer {
        /// File name of the segment.
        segment: String,
    },
    /// Damage that no copy mends: the journal ends before it, and everything from there on is set aside.
    Cut {
        /// File name of the damaged segment.
        segment: String,
        /// Offset of the damage.
        offset: u64,
        /// What is wrong there.
        cause: String,
        /// Position that the journal ends at afterwards.
        position: u64,
        /// The events up to here at least are lost; `None` if nothing tells.
        lost_to: Option<u64>,
    },
    /// A snapshot that cannot be used is set aside.
    Snapshot {
        /// Its file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The cursor of a projection cannot be used. It is left for a person: without it the projection begins anew.
    Cursor {
        /// Name of the projection.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// What was found, and where everything was put that went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// In the order found; empty if the journal is in order.
    pub repairs: Vec<Repair>,
    /// `None` if nothing was changed.
    pub set_aside: Option<PathBuf>,
}

/// Finds what is damaged, and with `apply` does what [`Repair`] says about it.
///
/// It takes the writer's lock, so it is refused while somebody writes. Damage to the floor, or to the first segment's
/// header, cannot be repaired: that is the error it was.
pub fn repair(dir: impl AsRef<Path>, apply: bool) -> Result<Repaired> {
    let dir = dir.as_ref();
    if !Reader::has_segments(dir)? {
        return Err(Error::NotAJournal { dir: dir.to_owned() });
    }
    let _lock = WriterLock::take(dir)?;
    let (repairs, aside) = repair_on(&FileMedium::new(dir), apply)?;
    Ok(Repaired {
        repairs,
        set_aside: aside.map(|aside| dir.join(aside)),
    })
}

/// The whole of repairing, on any medium that nobody else writes. With it, the directory in it where everything was put.
pub(crate) fn repair_on(medium: &dyn Medium, apply: bool) -> Result<(Vec<Repair>, Option<String>)> {
    if apply {
        cut::settle(medium)?;
    }
    let mut repairs = Vec::new();
    let mut put = None;
    let mut aside = || -> Result<String> {
        match &put {
            Some(aside) => Ok(String::clone(aside)),
            None => Ok(put.insert(cut::make_aside(medium)?).clone()),
        }
    };
    // Where the last cut was: damage that cutting does not take away is the error it was.
    let mut last_cut = None;
    // Each footer written again may show the next damage.
    while let Err(e) = verify(medium, Checks::ALL, &|_| {}) {
        let Error::Corruption {
            segment,
            offset,
            cause,
        } = e
        else {
            return Err(e);
        };
        let Some(index) = segment::index_of(&segment) else {
            return Err(Error::corruption(segment, offset, cause));
        };
        let segments = segments_there(medium)?;
        if let Some(footer) = lost_footer(medium, index)? {
            repairs.push(Repair::Footer {
                segment: segment.clone(),
            });
            if !apply {
                // What lies behind it is seen once it is written.
                break;
            }
            let file = medium
                .open(&segment, Access::Write)
                .map_err(Error::io("open", &segment))?;
            let at = file.len().map_err(Error::io("read the length of", &segment))? - segment::FOOTER;
            file.write_at(at, &footer.encode())
                .and_then(|()| file.sync())
                .map_err(Error::io("write", &segment))?;
            continue;
        }
        let cut = cut_before(medium, index, offset, &segment, &cause)?;
        if last_cut.replace((index, cut.offset)) == Some((index, cut.offset)) {
            return Err(Error::corruption(segment, offset, cause));
        }
        let later: Vec<u64> = segments.into_iter().filter(|other| *other > index).collect();
        let lost_to = later.iter().rev().find_map(|index| {
            let first = segment::open(medium, *index).ok()?.2.first_position;
            let sealed = Sealed::open(medium, *index).ok().flatten();
            Some(sealed.map_or(first, |sealed| sealed.footer.next_position))
        });
        repairs.push(Repair::Cut {
            segment,
            offset,
            cause,
            position: cut.position,
            lost_to,
        });
        if !apply {
            break;
        }
        let aside = aside()?;
        cut::apply(medium, &aside, &cut, &later)?;
    }
    let journal = last_header(medium)?.journal;
    for (file, entity) in
        snapshot_slots::files(medium).map_err(Error::io("list", snapshot_slots::DIRECTORY))?
    {
        let open = medium
            .open(&file, Access::Read)
            .map_err(Error::io("open", &file))?;
        if let Err(cause) = snapshot_format::read(&*open, &journal, entity, SnapshotChecks::ALL) {
            if apply {
                let aside = aside()?;
                cut::set_aside(medium, &aside, &file)?;
            }
            repairs.push(Repair::Snapshot { file, cause });
        }
    }
    for name in cursor::names(medium).map_err(Error::io("list", cursor::DIRECTORY))? {
        if let Err(Error::BadCursor { name, cause }) = cursor::load(medium, &journal, &name) {
            repairs.push(Repair::Cursor { name, cause });
        }
    }
    Ok((repairs, put))
}

/// Numbers of all segments that have a file, gaps or not.
fn segments_there(medium: &dyn Medium) -> Result<Vec<u64>> {
    let names = medium
        .list()
        .map_err(Error::io("list", "the journal's directory"))?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment::index_of(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

fn last_header(medium: &dyn Medium) -> Result<Header> {
    let good = |index: &u64| segment::open(medium, *index).ok().map(|(_, _, header)| header);
    segments_there(medium)?
        .iter()
        .rev()
        .find_map(good)
        .ok_or_else(|| Error::corruption(segment::name(0), 0, "no segment has a good header"))
}

/// The footer that the segment must have had, if its own is damaged and all its records are good: the next segment's
/// header says where they end.
fn lost_footer(medium: &dyn Medium, index: u64) -> Result<Option<Footer>> {
    let Ok((name, file, header)) = segment::open(medium, index) else {
        return Ok(None);
    };
    let (Ok((_, _, next)), false) = (segment::open(medium, index + 1), header.compacted) else {
        return Ok(None);
    };
    if Footer::read(&*file, &header)
        .map_err(Error::io("read", &name))?
        .is_some()
        || next.base < header.base
    {
        return Ok(None);
    }
    let end = header.offset_of(next.base);
    if end > header.data_end() {
        return Ok(None);
    }
    let mut scanner = Scanner::new(&header, end, Checks::ALL);
    let mut timestamp = 0;
    while let Step::Record = scanner.step(&*file).map_err(Error::io("read", &name))? {
        timestamp = scanner.header().timestamp.max(timestamp);
    }
    let whole = scanner.offset == end && !scanner.in_batch() && scanner.position == next.first_position;
    Ok(whole.then_some(Footer {
        index,
        end,
        next_position: next.first_position,
        epoch: scanner.epoch,
        log_end: next.base,
        timestamp,
    }))
}

/// Where the journal can end so that the damage is not in it.
fn cut_before(medium: &dyn Medium, index: u64, offset: u64, name: &str, cause: &str) -> Result<Cut> {
    let before = index.checked_sub(1).map(|before| Sealed::open(medium, before));
    let expected = match before {
        Some(Ok(Some(before))) => Some(Header {
            index,
            base: before.footer.log_end,
            first_position: before.footer.next_position,
            epoch: before.footer.epoch,
            ..before.header
        }),
        _ => None,
    };
    let follows = |header: &Header| {
        expected.is_none_or(|expected| {
            (header.journal, header.base, header.first_position)
                == (expected.journal, expected.base, expected.first_position)
        })
    };
    match segment::open(medium, index) {
        // A compacted segment is never the last: it goes whole.
        Ok((_, _, header)) if header.compacted && follows(&header) => Ok(Cut::at_the_start(header)),
        Ok((name, file, header)) if follows(&header) && offset >= DATA => {
            Cut::within(&*file, &name, header, offset.min(header.data_end()), u64::MAX)
        }
        // Its own header says nothing, or what the segment before does not.
        _ => expected.map(Cut::at_the_start).ok_or_else(|| {
            let cause = format!("{cause} (nothing before it says where the journal could end)");
            Error::corruption(name, offset, cause)
        }),
    }
}

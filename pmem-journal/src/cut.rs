//! Cutting a journal that nobody writes: everything from one batch on is set aside, never deleted.
//!
//! What goes is renamed or linked into a directory `set-aside-N` in the journal's. Snapshots that know too much go first,
//! then segments from the newest back, each durably, so that after a crash anywhere the journal is a valid one, longer than
//! wanted: cutting again completes it.

use std::io;

use crate::error::{Error, Result};
use crate::format::{FLAG_BATCH_END, JournalId};
use crate::medium::{Access, Medium, MediumFile, read_full};
use crate::publish;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, DATA, Header};
use crate::segment_index;
use crate::snapshot_format::{self, SnapshotChecks};
use crate::snapshot_slots;

/// Where a journal is to end.
pub(crate) struct Cut {
    /// The segment that becomes the last one.
    pub(crate) header: Header,
    /// Its records from here on go.
    pub(crate) offset: u64,
    /// Position of the first event that goes.
    pub(crate) position: u64,
}

impl Cut {
    /// The segment becomes empty.
    pub(crate) fn at_the_start(header: Header) -> Cut {
        Cut {
            header: Header {
                compacted: false,
                ..header
            },
            offset: DATA,
            position: header.first_position,
        }
    }

    /// The longest valid run of whole batches below `position` and offset `end` of the segment.
    pub(crate) fn within(
        file: &dyn MediumFile,
        name: &str,
        header: Header,
        end: u64,
        position: u64,
    ) -> Result<Cut> {
        let mut cut = Cut {
            header,
            offset: DATA,
            position: header.first_position,
        };
        let mut scanner = Scanner::new(&header, end, Checks::ALL);
        while let Step::Record = scanner.step(file).map_err(Error::io("read", name))? {
            let record = scanner.header();
            let whole = record.is_control() || record.flags & FLAG_BATCH_END != 0;
            if scanner.position > position {
                break;
            }
            if whole {
                cut.offset = scanner.offset;
                cut.position = scanner.position;
            }
        }
        Ok(cut)
    }
}

/// Snapshots of events at `position` and after, and those that cannot be read.
pub(crate) fn snapshots_from(medium: &dyn Medium, journal: &JournalId, position: u64) -> Result<Vec<String>> {
    let mut from = Vec::new();
    for (name, entity) in
        snapshot_slots::files(medium).map_err(Error::io("list", snapshot_slots::DIRECTORY))?
    {
        let file = medium.open(&name, Access::Read);
        let file = file.map_err(Error::io("open", &name))?;
        let read = snapshot_format::read(&*file, journal, entity, SnapshotChecks::ALL);
        if read.is_ok_and(|snapshot| snapshot.position >= position) {
            from.push(name);
        }
    }
    Ok(from)
}

/// A directory for what is set aside: a new one, or one that a crash left empty.
pub(crate) fn make_aside(medium: &dyn Medium) -> Result<String> {
    for n in 0u32.. {
        let aside = format!("set-aside-{n}");
        match medium.directory(&aside).list() {
            Ok(names) if !names.is_empty() => {}
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("list", aside)(e)),
            _ => {
                medium
                    .make_directory(&aside)
                    .map_err(Error::io("create", &aside))?;
                return Ok(aside);
            }
        }
    }
    unreachable!("four thousand million directories")
}

/// Makes durable what an interrupted cut or repair left, so that what the next one finds stays as it is found.
pub(crate) fn settle(medium: &dyn Medium) -> Result<()> {
    sync_dir(medium, "")?;
    match medium.directory(snapshot_slots::DIRECTORY).sync_dir() {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("sync the directory", snapshot_slots::DIRECTORY)(e));
        }
        _ => {}
    }
    for n in 0u32.. {
        let aside = format!("set-aside-{n}");
        if medium
            .directory(&aside)
            .list()
            .map_or(true, |names| names.is_empty())
        {
            break;
        }
        sync_dir(medium, &aside)?;
    }
    let names = medium
        .list()
        .map_err(Error::io("list", "the journal's directory"))?;
    for name in names.iter().filter(|name| segment::index_of(name).is_some()) {
        // What cannot be opened is for verifying to say.
        if let Ok(file) = medium.open(name, Access::Read) {
            file.sync().map_err(Error::io("sync", name))?;
        }
    }
    Ok(())
}

/// Moves a file of the journal there, if it is there at all; durable when it returns.
pub(crate) fn set_aside(medium: &dyn Medium, aside: &str, name: &str) -> Result<()> {
    let (directory, file) = name.rsplit_once('/').unwrap_or(("", name));
    match medium.rename(name, &format!("{aside}/{file}")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("set aside", name))?,
    }
    // It has its new name before it loses the old one.
    sync_dir(medium, aside)?;
    sync_dir(medium, directory)
}

fn sync_dir(medium: &dyn Medium, directory: &str) -> Result<()> {
    match directory {
        "" => medium.sync_dir(),
        directory => medium.directory(directory).sync_dir(),
    }
    .map_err(Error::io("sync the directory", directory))
}

/// Makes the journal end at the cut. `later` are the segments after it, in rising order.
pub(crate) fn apply(medium: &dyn Medium, aside: &str, cut: &Cut, later: &[u64]) -> Result<()> {
    for name in snapshots_from(medium, &cut.header.journal, cut.position)? {
        set_aside(medium, aside, &name)?;
    }
    // What was published is more than will be true.
    publish::reset(medium).map_err(Error::io("write", publish::NAME))?;
    for index in later.iter().rev() {
        // Derived, and not to outlive the segment.
        set_aside(medium, aside, &segment_index::name(*index))?;
        set_aside(medium, aside, &segment::name(*index))?;
    }
    let index = cut.header.index;
    let name = segment::name(index);
    let mut bytes = vec![0; cut.header.size as usize];
    if cut.offset > DATA {
        let file = medium
            .open(&name, Access::Read)
            .map_err(Error::io("open", &name))?;
        let records = &mut bytes[DATA as usize..cut.offset as usize];
        read_full(&*file, DATA, records).map_err(Error::io("read", &name))?;
    }
    let head = cut.header.encode();
    bytes[..head.len()].copy_from_slice(&head);
    // What is set aside already is older than what an earlier cut left of it.
    match medium.hard_link(&name, &format!("{aside}/{name}")) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
            return Err(Error::io("set aside", name)(e));
        }
        _ => {}
    }
    sync_dir(medium, aside)?;
    medium
        .store(&name, &bytes)
        .map_err(Error::writing(&name, bytes.len() as u64))?;
    sync_dir(medium, "")?;
    set_aside(medium, aside, &segment_index::name(index))
}

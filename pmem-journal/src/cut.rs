//! Cutting a journal that nobody writes: everything from one batch on is set aside, never deleted.
//!
//! What goes is renamed or linked into a directory `set-aside-N` in the journal's. Snapshots that know too much go first,
//! then segments from the newest back, each durably, so that after a crash anywhere the journal is a valid one, longer than
//! wanted: cutting again completes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{FLAG_BATCH_END, JournalId};
use crate::medium::file::FileMedium;
use crate::medium::{Medium, MediumFile, read_full};
use crate::publish;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, DATA, Header};
use crate::segment_index;
use crate::snapshot;
use crate::snapshot_format::{self, SnapshotChecks};

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
pub(crate) fn snapshots_from(medium: &FileMedium, journal: &JournalId, position: u64) -> Result<Vec<String>> {
    let mut from = Vec::new();
    for (name, entity) in snapshot::files(medium).map_err(Error::io("list", snapshot::DIRECTORY))? {
        let file = medium.open(&name, crate::medium::Access::Read);
        let file = file.map_err(Error::io("open", &name))?;
        let read = snapshot_format::read(&*file, journal, entity, SnapshotChecks::ALL);
        if read.is_ok_and(|snapshot| snapshot.position >= position) {
            from.push(name);
        }
    }
    Ok(from)
}

/// A new directory for what is set aside.
pub(crate) fn make_aside(dir: &Path) -> Result<PathBuf> {
    for n in 0u32.. {
        let aside = dir.join(format!("set-aside-{n}"));
        match fs::create_dir(&aside) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("create", aside)(e)),
            Ok(()) => return Ok(aside),
        }
    }
    unreachable!("four thousand million directories")
}

/// Moves a file of the journal there.
pub(crate) fn set_aside(dir: &Path, aside: &Path, name: &str) -> Result<()> {
    let file = Path::new(name).file_name().unwrap_or_default();
    match fs::rename(dir.join(name), aside.join(file)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("set aside", name)(e)),
        _ => Ok(()),
    }
}

/// Makes the journal end at the cut. `later` are the segments after it, in rising order.
pub(crate) fn apply(dir: &Path, aside: &Path, cut: &Cut, later: &[u64]) -> Result<()> {
    let medium = FileMedium::new(dir);
    for name in snapshots_from(&medium, &cut.header.journal, cut.position)? {
        set_aside(dir, aside, &name)?;
        let directory = medium.directory(snapshot::DIRECTORY);
        directory
            .sync_dir()
            .map_err(Error::io("sync", snapshot::DIRECTORY))?;
    }
    // What was published is more than will be true.
    publish::reset(dir).map_err(Error::io("write `published` in", dir))?;
    let sync = || medium.sync_dir().map_err(Error::io("sync", dir));
    for index in later.iter().rev() {
        set_aside(dir, aside, &segment::name(*index))?;
        set_aside(dir, aside, &segment_index::name(*index))?;
        sync()?;
    }
    let index = cut.header.index;
    let name = segment::name(index);
    let mut bytes = vec![0; cut.header.size as usize];
    let old = dir.join(&name);
    if cut.offset > DATA {
        let file = medium
            .open(&name, crate::medium::Access::Read)
            .map_err(Error::io("open", &name))?;
        let records = &mut bytes[DATA as usize..cut.offset as usize];
        read_full(&*file, DATA, records).map_err(Error::io("read", &name))?;
    }
    let head = cut.header.encode();
    bytes[..head.len()].copy_from_slice(&head);
    // What is set aside already is older than what an earlier cut left of it.
    match fs::hard_link(&old, aside.join(&name)) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
            return Err(Error::io("set aside", name)(e));
        }
        _ => {}
    }
    medium
        .store(&name, &bytes)
        .map_err(Error::writing(&name, bytes.len() as u64))?;
    set_aside(dir, aside, &segment_index::name(index))?;
    sync()
}

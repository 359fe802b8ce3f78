//! A copy of the journal while it is being written: a consistent prefix, with its snapshots and cursors.
//!
//! Segments are copied oldest first, and how much of the last one is durable is asked last, so the copy holds everything
//! that was durable when it came to the end. It is made under another name, verified, and only then gets the name that was
//! asked for: a directory of that name is a whole backup. The writer is not disturbed; dropping, compacting and moving
//! segments wait (`upkeep.rs`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cursor;
use crate::error::{Error, Result};
use crate::floor;
use crate::history::journal_id;
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium, read_full};
use crate::options::Progress;
use crate::reader::Reader;
use crate::scan::Checks;
use crate::segment::{self, Footer, Header};
use crate::snapshot_format::{self, SnapshotChecks};
use crate::snapshot_slots;
use crate::upkeep::Upkeep;
use crate::verify::verify;

/// How long a backup waits for dropping, compacting or moving to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Position of the first event in the backup.
    pub first_position: u64,
    /// Position of the first event that is not in the backup.
    pub next_position: u64,
    /// Snapshots copied: those of events in the backup. Bad ones are left out.
    pub snapshots: u64,
}

impl Reader {
    /// Copies everything that is durable to the directory `to`, which must not exist, and verifies the copy. What is there
    /// in the end is a journal like any other.
    pub fn backup(&self, to: impl AsRef<Path>, progress: &dyn Fn(Progress)) -> Result<Backup> {
        let to = to.as_ref();
        let refused = |cause: String| Error::BackupDirectory {
            dir: to.to_owned(),
            cause,
        };
        if to.exists() {
            return Err(refused("it exists".to_owned()));
        }
        let Some(name) = to.file_name() else {
            return Err(refused("it has no name".to_owned()));
        };
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        let unfinished = to.with_file_name(unfinished);
        match fs::create_dir(&unfinished) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(refused(format!(
                    "{} is there, of a backup that is being made or was broken off: remove it",
                    unfinished.display()
                )));
            }
            other => other.map_err(Error::io("create", &unfinished))?,
        }
        let copied = self.copy_to(&unfinished, progress);
        let finished = copied.and_then(|backup| {
            fs::rename(&unfinished, to).map_err(Error::io("rename", &unfinished))?;
            let parent = to.parent().filter(|p| !p.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(Error::io("sync", parent))?;
            Ok(backup)
        });
        finished.inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))
    }

    fn copy_to(&self, unfinished: &Path, progress: &dyn Fn(Progress)) -> Result<Backup> {
        let _upkeep = wait_for_upkeep(self.dir())?;
        let (from, to) = (FileMedium::new(self.dir()), FileMedium::new(unfinished));
        let journal = journal_id(&from, self)?;
        let listing = Listing::read(&from)?;
        if let Some(first) = listing.floor {
            copy_file(&from, &to, &floor::name(first))?;
        }
        let mut bytes = 0;
        for index in &listing.segments {
            let (name, file, header) = segment::open(&from, *index)?;
            let mut copy = vec![0; header.size as usize];
            // Asked for the last one alone: sealed segments are durable as they are.
            let end = match Footer::read(&*file, &header).map_err(Error::io("read", &name))? {
                Some(_) => header.size,
                None => self.durable_end(&header)?,
            };
            read_full(&*file, 0, &mut copy[..end as usize]).map_err(Error::io("read", &name))?;
            store(&to, &name, &copy)?;
            bytes += header.size;
            progress(Progress {
                segment: *index,
                done: header.size,
                of: header.size,
            });
        }
        to.sync_dir().map_err(Error::io("sync", unfinished))?;
        let found = verify(&to, Checks::ALL, progress)?.report;
        let end = found.next_position;
        let mut snapshots = 0;
        for (name, entity) in
            snapshot_slots::files(&from).map_err(Error::io("list", snapshot_slots::DIRECTORY))?
        {
            let file = match from.open(&name, Access::Read) {
                // Another took its place meanwhile, under another name.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::io("open", &name))?,
            };
            let read = snapshot_format::read(&*file, &journal, entity, SnapshotChecks::ALL);
            if let Ok(snapshot) = read.as_ref()
                && snapshot.position < end
            {
                make_directory(&to, snapshot_slots::DIRECTORY)?;
                store(&to, &name, &snapshot_format::encode(&journal, snapshot))?;
                snapshots += 1;
            }
        }
        for name in cursor::names(&from).map_err(Error::io("list", cursor::DIRECTORY))? {
            // One that has seen more than is in the backup would miss what comes to stand there.
            if let Ok(cursor) = cursor::load(&from, &journal, &name)
                && cursor.position <= end
            {
                make_directory(&to, cursor::DIRECTORY)?;
                cursor::store(&to, &journal, &name, &cursor)?;
            }
        }
        if snapshots > 0 {
            let directory = to.directory(snapshot_slots::DIRECTORY);
            directory
                .sync_dir()
                .map_err(Error::io("sync", snapshot_slots::DIRECTORY))?;
        }
        Ok(Backup {
            segments: listing.segments.len() as u64,
            bytes,
            first_position: found.first_position,
            next_position: end,
            snapshots,
        })
    }

    /// Offset where the durable part of the segment being written ends.
    fn durable_end(&self, header: &Header) -> Result<u64> {
        let limit = self.durable_limit()?.max(header.base);
        Ok(header.offset_of(limit).min(header.data_end()))
    }
}

fn wait_for_upkeep(dir: &Path) -> Result<Upkeep> {
    let started = Instant::now();
    loop {
        match Upkeep::to_copy(dir)? {
            Some(upkeep) => return Ok(upkeep),
            None if started.elapsed() > PATIENCE => {
                return Err(Error::UpkeepBusy { dir: dir.to_owned() });
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn make_directory(medium: &FileMedium, name: &str) -> Result<()> {
    medium.make_directory(name).map_err(Error::writing(name, 0))
}

fn store(medium: &FileMedium, name: &str, bytes: &[u8]) -> Result<()> {
    medium
        .store(name, bytes)
        .map_err(Error::writing(PathBuf::from(name), bytes.len() as u64))
}

fn copy_file(from: &FileMedium, to: &FileMedium, name: &str) -> Result<()> {
    let file = from.open(name, Access::Read).map_err(Error::io("open", name))?;
    let len = file.len().map_err(Error::io("read the length of", name))?;
    // A floor holds 32 bytes an entity; what claims more than a segment may have is damage.
    let mut bytes = vec![0; len.min(segment::MAX_SIZE) as usize];
    read_full(&*file, 0, &mut bytes).map_err(Error::io("read", name))?;
    store(to, name, &bytes)
}

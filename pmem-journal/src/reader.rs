//! Reading, in the writer's process or another, without disturbing the writer.
//!
//! A reader never shows an event that could still be lost. While a writer lives, it stops at the position the writer
//! publishes after each commit. With no writer, it first makes what it finds durable itself (fdatasync needs no
//! write permission), and then shows whole batches only. It takes no lock and writes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::indexes::Indexes;
use crate::listing::Listing;
use crate::lock::WriterLock;
use crate::medium::Medium;
use crate::medium::file::FileMedium;
use crate::open_segment::OpenSegment;
use crate::options::Progress;
use crate::publish;
use crate::published::Published;
use crate::recover::{Recovery, recover_last};
use crate::scan::Checks;
use crate::segment;
use crate::tail::Tail;
use crate::verify::verify;

/// Reads a journal. Clones share what is known of its indexes.
#[derive(Clone)]
pub struct Reader {
    dir: PathBuf,
    /// The writer's own knowledge, in its own process.
    published: Option<Arc<Published>>,
    /// And the writer wakes who sleeps on it.
    wakes: bool,
    indexes: Arc<Indexes>,
    /// With no writer: how far the journal was found to be valid, and when `published` had last been written.
    settled: Arc<Mutex<Option<(SystemTime, u64)>>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of the journal in `dir`, which some writer has created.
    pub fn open(dir: impl AsRef<Path>) -> Result<Reader> {
        let dir = dir.as_ref().to_owned();
        if !Reader::has_segments(&dir)? {
            return Err(Error::NotAJournal { dir });
        }
        let indexes = Indexes::new(Arc::new(FileMedium::new(&dir)), None);
        Ok(Reader {
            dir,
            published: None,
            wakes: false,
            indexes: Arc::new(indexes),
            settled: Arc::default(),
        })
    }

    /// A reader in the writer's process.
    pub(crate) fn within(
        dir: &Path,
        published: Arc<Published>,
        wakes: bool,
        indexes: Arc<Indexes>,
    ) -> Reader {
        Reader {
            dir: dir.to_owned(),
            published: Some(published),
            wakes,
            indexes,
            settled: Arc::default(),
        }
    }

    /// What to sleep on until more is durable, if the writer wakes its readers.
    pub(crate) fn wakes(&self) -> Option<&Published> {
        self.published.as_deref().filter(|_| self.wakes)
    }

    pub(crate) fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// What is known of the segment that is being written, in the writer's process.
    pub(crate) fn tail(&self) -> Option<&Tail> {
        self.published.is_some().then(|| self.indexes.tail())
    }

    pub(crate) fn has_segments(dir: &Path) -> Result<bool> {
        match FileMedium::new(dir).list() {
            Ok(names) => Ok(names.iter().any(|name| segment::index_of(name).is_some())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("list", dir)(e)),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a writer has the journal open now.
    pub fn has_writer(&self) -> bool {
        WriterLock::is_held(&self.dir)
    }

    /// Position of the oldest event kept.
    pub fn first_position(&self) -> Result<u64> {
        let medium = FileMedium::new(&self.dir);
        let listing = Listing::read(&medium)?;
        match listing.segments.first() {
            Some(first) => Ok(OpenSegment::open(&medium, *first)?.header.first_position),
            None => Err(Error::NotAJournal {
                dir: self.dir.clone(),
            }),
        }
    }

    /// Why a segment could not be opened: dropped meanwhile, or what the error says.
    pub(crate) fn dropped(&self, asked: u64, e: Error) -> Error {
        let missing = matches!(&e, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        match self.first_position() {
            Ok(first) if missing && first > asked => Error::BelowFirst { asked, first },
            _ => e,
        }
    }

    /// Log position up to which everything is durable.
    pub(crate) fn durable_limit(&self) -> Result<u64> {
        if let Some(published) = &self.published {
            return Ok(published.position());
        }
        let of_writer = || publish::read(&self.dir).map_err(Error::io("read `published` in", &self.dir));
        if self.has_writer() {
            return of_writer();
        }
        // Every writer writes `published` when it opens the journal.
        let written = publish::written(&self.dir);
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        match (*settled, written) {
            (Some((then, limit)), Some(written)) if then == written => return Ok(limit),
            _ => *settled = None,
        }
        let found = recover_last(&FileMedium::new(&self.dir));
        // A writer that came meanwhile makes what was found a mixture of before and after.
        if self.has_writer() || publish::written(&self.dir) != written {
            return of_writer();
        }
        let found = found?;
        // The clock of files is coarse: a writer may come and go within one of its ticks.
        let old = |written: &SystemTime| written.elapsed().is_ok_and(|age| age > Duration::from_secs(1));
        *settled = written.filter(old).map(|written| (written, found));
        Ok(found)
    }
}

/// A journal in a few figures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The journal's random id, as hex.
    pub journal_id: String,
    /// Version of the format.
    pub format_version: u16,
    /// Segments.
    pub segments: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Position of the oldest event kept.
    pub first_position: u64,
    /// Position the next event will get, as far as is durable.
    pub next_position: u64,
}

impl Summary {
    /// Events kept.
    pub fn events(&self) -> u64 {
        self.next_position - self.first_position
    }
}

impl Reader {
    /// What the journal holds, from headers and the last segment alone.
    pub fn summary(&self) -> Result<Summary> {
        let medium = FileMedium::new(&self.dir);
        let limit = self.durable_limit()?;
        let mut summary: Option<Summary> = None;
        let mut last = None;
        for index in Listing::read(&medium)?.segments {
            let open = OpenSegment::open(&medium, index)?;
            let header = open.header;
            let summary = summary.get_or_insert_with(|| Summary {
                journal_id: header.journal.iter().map(|b| format!("{b:02x}")).collect(),
                format_version: segment::VERSION,
                segments: 0,
                bytes: 0,
                first_position: header.first_position,
                next_position: header.first_position,
            });
            summary.segments += 1;
            summary.bytes += header.size;
            if header.base <= limit {
                last = Some(header.first_position);
            }
        }
        let Some(mut summary) = summary else {
            return Err(Error::NotAJournal {
                dir: self.dir.clone(),
            });
        };
        let mut replay = self.replay_from(last, limit)?;
        while replay.next_event()?.is_some() {}
        summary.next_position = replay.position();
        Ok(summary)
    }

    /// Checks every record. Beside a writer up to the published position, otherwise to the end.
    pub fn verify(&self) -> Result<Recovery> {
        self.verify_with(&|_| {})
    }

    /// As [`Reader::verify`], and tells every few mebibytes how far it is.
    pub fn verify_with(&self, progress: &dyn Fn(Progress)) -> Result<Recovery> {
        let medium = FileMedium::new(&self.dir);
        if !self.has_writer() {
            let found = verify(&medium, Checks::ALL, progress);
            if !self.has_writer() {
                return Ok(found?.report);
            }
        }
        let mut replay = self.replay_kept()?;
        let first = replay.open.header.first_position;
        while replay.next_event()?.is_some() {}
        let next = replay.position();
        Ok(Recovery {
            events: next - first,
            first_position: first,
            next_position: next,
            segments: Listing::read(&medium)?.segments.len() as u64,
            clean: false,
            torn: None,
        })
    }
}

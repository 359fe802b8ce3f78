//! Reading, in the writer's process or another, without disturbing the writer.
//!
//! A reader never shows an event that could still be lost. While a writer lives, it stops at the position the writer
//! publishes after each commit. With no writer, it first makes what it finds durable itself (fdatasync needs no
//! write permission), and then shows whole batches only. It takes no lock and writes nothing.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::event::{EntityId, OwnedEvent, Recorded};
use crate::listing::Listing;
use crate::lock::WriterLock;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium, MediumFile};
use crate::publish;
use crate::recover::{Recovery, recover, recover_last};
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, Footer, Header};

/// Reads a journal.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
    /// The writer's own knowledge, in its own process.
    limit: Option<u64>,
}

impl Reader {
    /// A reader of the journal in `dir`, which some writer has created.
    pub fn open(dir: impl AsRef<Path>) -> Result<Reader> {
        let dir = dir.as_ref().to_owned();
        if !Reader::has_segments(&dir)? {
            return Err(Error::NotAJournal { dir });
        }
        Ok(Reader { dir, limit: None })
    }

    pub(crate) fn open_below(dir: &Path, limit: u64) -> Result<Reader> {
        Ok(Reader {
            dir: dir.to_owned(),
            limit: Some(limit),
        })
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

    /// All events kept, up to what is durable now.
    pub fn replay_kept(&self) -> Result<Replay> {
        self.replay_from(None)
    }

    /// Events at position `from` and after, up to what is durable now. If some of them were dropped the answer is
    /// [`Error::BelowFirst`].
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.replay_from(Some(from))
    }

    fn replay_from(&self, from: Option<u64>) -> Result<Replay> {
        let medium = FileMedium::new(&self.dir);
        let limit = self.durable_limit(&medium)?;
        let indexes = Listing::read(&medium)?.segments;
        let asked = from;
        let from = from.unwrap_or(0);
        let mut chosen = None;
        // Newest first: a reader of the end never opens the rest.
        for index in indexes.into_iter().rev() {
            let open = OpenSegment::open(&medium, index)?;
            let found = open.header.first_position <= from && open.header.base <= limit;
            chosen = Some(open);
            if found {
                break;
            }
        }
        let Some(open) = chosen else {
            return Err(Error::NotAJournal {
                dir: self.dir.clone(),
            });
        };
        let first = open.header.first_position;
        if from < first && asked.is_some() {
            return Err(Error::BelowFirst { asked: from, first });
        }
        let scanner = Scanner::new(&open.header, 0, Checks::ALL);
        let mut replay = Replay {
            reader: self.clone(),
            medium,
            open,
            scanner,
            limit,
            from,
        };
        replay.set_end();
        Ok(replay)
    }

    /// Why a segment could not be opened: dropped meanwhile, or what the error says.
    fn dropped(&self, asked: u64, e: Error) -> Error {
        let missing = matches!(&e, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        match self.first_position() {
            Ok(first) if missing && first > asked => Error::BelowFirst { asked, first },
            _ => e,
        }
    }

    /// Log position up to which everything is durable.
    fn durable_limit(&self, medium: &FileMedium) -> Result<u64> {
        if let Some(limit) = self.limit {
            return Ok(limit);
        }
        if self.has_writer() {
            return publish::read(&self.dir).map_err(Error::io("read `published` in", &self.dir));
        }
        let found = recover_last(medium);
        // A writer that came meanwhile makes what was found a mixture of before and after.
        if self.has_writer() {
            return publish::read(&self.dir).map_err(Error::io("read `published` in", &self.dir));
        }
        found
    }
}

struct OpenSegment {
    name: String,
    file: Box<dyn MediumFile>,
    header: Header,
    footer: Option<Footer>,
}

impl OpenSegment {
    fn open(medium: &FileMedium, index: u64) -> Result<OpenSegment> {
        let name = segment::name(index);
        let file = medium
            .open(&name, Access::Read)
            .map_err(Error::io("open", &name))?;
        let header = Header::read(&*file, &name)?;
        let footer = Footer::read(&*file, &header).map_err(Error::io("read", &name))?;
        Ok(OpenSegment {
            name,
            file,
            header,
            footer,
        })
    }

    fn corrupt(&self, offset: u64, cause: impl ToString) -> Error {
        Error::Corruption {
            segment: self.name.clone(),
            offset,
            cause: cause.to_string(),
        }
    }
}

/// Events in order. [`Replay::next_event`] lends each from a buffer: a million of them cost no allocation.
pub struct Replay {
    reader: Reader,
    medium: FileMedium,
    open: OpenSegment,
    scanner: Scanner,
    limit: u64,
    from: u64,
}

impl Replay {
    /// The next event, or `None` at the end of what was durable when this replay began or was last refreshed.
    pub fn next_event(&mut self) -> Result<Option<Recorded<'_>>> {
        loop {
            match self
                .scanner
                .step(&*self.open.file)
                .map_err(Error::io("read", &self.open.name))?
            {
                Step::Record(header, range) => {
                    if !header.is_control() && header.position >= self.from {
                        return Ok(Some(header.event(&self.scanner.bytes()[range])));
                    }
                }
                Step::Invalid(cause) => return Err(self.open.corrupt(self.scanner.offset, cause)),
                Step::End if self.scanner.offset < self.scanner.end => {
                    let cause = "nothing is written where something was durable";
                    return Err(self.open.corrupt(self.scanner.offset, cause));
                }
                Step::End => {
                    if !self.next_segment()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Looks again how far the journal is durable; true if there is more than before.
    pub fn refresh(&mut self) -> Result<bool> {
        let limit = self.reader.durable_limit(&self.medium)?;
        let more = limit > self.limit;
        self.limit = self.limit.max(limit);
        self.set_end();
        Ok(more)
    }

    /// Position of the next event this replay will give.
    pub fn position(&self) -> u64 {
        self.scanner.position.max(self.from)
    }

    /// The events as an iterator of owned copies; it ends after the first error.
    pub fn owned(self) -> impl Iterator<Item = Result<OwnedEvent>> {
        let mut replay = Some(self);
        std::iter::from_fn(move || {
            let next = replay
                .as_mut()?
                .next_event()
                .map(|event| event.map(|event| event.to_owned()));
            if next.is_err() {
                replay = None;
            }
            next.transpose()
        })
    }

    /// As [`Replay::owned`], of one entity.
    pub fn of_entity(self, entity: EntityId) -> impl Iterator<Item = Result<OwnedEvent>> {
        self.owned()
            .filter(move |event| event.as_ref().map_or(true, |event| event.entity == entity))
    }

    /// As [`Replay::owned`], of those with this tag.
    pub fn with_tag(self, tag: &str) -> impl Iterator<Item = Result<OwnedEvent>> {
        self.owned().filter(move |event| {
            event
                .as_ref()
                .map_or(true, |event| event.tags.iter().any(|t| t == tag))
        })
    }

    fn set_end(&mut self) {
        let header = &self.open.header;
        let end = match self.open.footer {
            Some(footer) if footer.log_end <= self.limit => footer.end,
            footer => header
                .offset_of(self.limit.max(header.base))
                .min(footer.map_or(header.data_end(), |footer| footer.end)),
        };
        self.scanner.extend(end);
    }

    /// Goes on in the next segment, if this one is sealed and something beyond it is durable.
    fn next_segment(&mut self) -> Result<bool> {
        let header = self.open.header;
        let end = match self.open.footer {
            Some(footer) if footer.end == self.scanner.offset => footer.log_end,
            _ => header.log_position(self.scanner.offset),
        };
        if self.limit <= end {
            return Ok(false);
        }
        if self.open.footer.is_none() {
            self.open.footer =
                Footer::read(&*self.open.file, &header).map_err(Error::io("read", &self.open.name))?;
            self.set_end();
        }
        let Some(footer) = self.open.footer else {
            return Err(self
                .open
                .corrupt(header.data_end(), "the footer of a sealed segment is not valid"));
        };
        if footer.end > self.scanner.offset {
            return Ok(true);
        }
        let all = self.scanner.position == footer.next_position
            || (header.compacted && self.scanner.position < footer.next_position);
        if self.scanner.in_batch() || !all {
            return Err(self.open.corrupt(
                self.scanner.offset,
                "its events are not those the footer speaks of",
            ));
        }
        let next = match OpenSegment::open(&self.medium, header.index + 1) {
            Err(e) => return Err(self.reader.dropped(footer.next_position, e)),
            Ok(next) => next,
        };
        let follows = next.header.journal == header.journal
            && next.header.base == footer.log_end
            && next.header.first_position == footer.next_position;
        if !follows {
            return Err(next.corrupt(0, "it does not go on where the segment before ended"));
        }
        self.scanner.start_segment(&next.header);
        self.open = next;
        self.set_end();
        Ok(true)
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
        let limit = self.durable_limit(&medium)?;
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
        let mut replay = Reader {
            dir: self.dir.clone(),
            limit: Some(limit),
        }
        .replay_from(last)?;
        while replay.next_event()?.is_some() {}
        summary.next_position = replay.position();
        Ok(summary)
    }

    /// Checks every record. Beside a writer up to the published position, otherwise to the end.
    pub fn verify(&self) -> Result<Recovery> {
        let medium = FileMedium::new(&self.dir);
        if !self.has_writer() {
            let found = recover(&medium, Checks::ALL);
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

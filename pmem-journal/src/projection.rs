//! Projections: what reads the journal and makes something of it, and remembers how far it came.
//!
//! The cursor is the position of the next event. When it is stored decides what a crash means: before the handler,
//! no event is handled twice, and some may never be; after it, every event is handled, and some may be twice; together
//! with the handler's own result, in one file that is replaced whole, the result is as if each were handled once. A
//! projection that would miss events, because they were dropped or compacted away, is told instead.
//!
//! A handler that keeps its result in a database of its own stores the position there, in the same transaction, and
//! needs none of this: it begins with [`Reader::replay`] at the position it finds.

use crate::cursor::{self, Cursor, DIRECTORY};
use crate::error::{Error, HandlerError, Result};
use crate::event::{OwnedEvent, Recorded};
use crate::flock::Flock;
use crate::format::JournalId;
use crate::history::journal_id;
use crate::medium::Medium;
use crate::medium::file::FileMedium;
use crate::reader::Reader;
use crate::replay::Replay;

/// A projection of one journal, by its name. One process at a time runs it.
///
/// ```
/// use pmem_journal::{Event, Expected, Journal, Projection, Reader};
///
/// # fn main() -> Result<(), pmem_journal::Error> {
/// # let temporary = tempfile::tempdir().unwrap();
/// # let dir = temporary.path();
/// let (journal, _) = Journal::open(dir)?;
/// journal.append(&[Event::new(1, 1, b"one"), Event::new(2, 1, b"two")], Expected::Any)?;
///
/// let mut words = Projection::open(&Reader::open(dir)?, "words")?;
/// // The result and the cursor are stored together, here after each 100 events and at the end of what is durable.
/// words.effectively_once(100, |result, event| {
///     result.extend_from_slice(event.payload);
///     result.push(b' ');
///     Ok(())
/// })?;
/// assert_eq!((words.position(), words.result()), (2, &b"one two "[..]));
/// # Ok(())
/// # }
/// ```
pub struct Projection {
    reader: Reader,
    medium: Box<dyn Medium>,
    journal: JournalId,
    name: String,
    stored: Cursor,
    over_gaps: bool,
    replay: Option<Replay>,
    _lock: Flock,
}

impl Projection {
    /// The projection called `name` (1 to 64 of `a-z`, `0-9`, `-`, `_`) of the reader's journal. Its cursor lies in the journal's
    /// directory, and retention keeps what it has not seen.
    ///
    /// A cursor that is damaged, or that belongs to another journal, is [`Error::BadCursor`], never a new beginning.
    pub fn open(reader: &Reader, name: &str) -> Result<Projection> {
        if !cursor::is_name(name) {
            return Err(Error::BadProjectionName {
                name: name.to_owned(),
            });
        }
        let medium = FileMedium::new(reader.dir());
        let journal = journal_id(&medium, reader)?;
        medium
            .make_directory(DIRECTORY)
            .map_err(Error::writing(DIRECTORY, 0))?;
        let lock = lock(reader, name)?;
        let stored = cursor::load(&medium, &journal, name)?;
        let end = reader.summary()?.next_position;
        if stored.position > end {
            return Err(Error::BadCursor {
                name: name.to_owned(),
                cause: format!(
                    "it is at position {}, and the journal ends at {end}",
                    stored.position
                ),
            });
        }
        Ok(Projection {
            reader: reader.clone(),
            medium: Box::new(medium),
            journal,
            name: name.to_owned(),
            stored,
            over_gaps: false,
            replay: None,
            _lock: lock,
        })
    }

    /// Whether to go on where events were taken out by compaction, instead of [`Error::BelowFirst`]. For handlers that
    /// need the newest events of each entity alone.
    #[must_use]
    pub fn over_gaps(self, over_gaps: bool) -> Projection {
        Projection { over_gaps, ..self }
    }

    /// Position of the next event, as stored.
    pub fn position(&self) -> u64 {
        self.stored.position
    }

    /// The result as stored, by [`Projection::effectively_once`] alone.
    pub fn result(&self) -> &[u8] {
        &self.stored.result
    }

    /// Begins at `position` with this result, whatever is stored: for rebuilding, or to skip what never mattered.
    pub fn reset(&mut self, position: u64, result: &[u8]) -> Result<()> {
        self.replay = None;
        self.store(Cursor {
            position,
            result: result.to_vec(),
        })
    }

    /// Handles each event up to what is durable now; the cursor is stored *before* each group of up to `every`. Says
    /// how many were handled.
    ///
    /// No event is ever handled twice. Those of a group in which the handler failed or the process died are not handled
    /// again: with `every` 1 that is one event.
    pub fn at_most_once(
        &mut self,
        every: usize,
        mut handler: impl FnMut(&Recorded<'_>) -> std::result::Result<(), HandlerError>,
    ) -> Result<u64> {
        let mut handled = 0;
        loop {
            let first = self.stored.position;
            let mut group = Group::default();
            self.read(every, |event| {
                group.push(event);
                Ok(())
            })?;
            if group.events.is_empty() {
                return Ok(handled);
            }
            self.advance(group.end(first))?;
            for event in group.iter() {
                handler(&event).map_err(failed(event.position))?;
                handled += 1;
            }
        }
    }

    /// Handles each event up to what is durable now; the cursor is stored *after* each group of up to `every`. Says how
    /// many were handled.
    ///
    /// Every event is handled. After a death of the process up to `every` of them are handled again; after a failure of
    /// the handler the next call begins with the event that failed.
    pub fn at_least_once(
        &mut self,
        every: usize,
        mut handler: impl FnMut(&Recorded<'_>) -> std::result::Result<(), HandlerError>,
    ) -> Result<u64> {
        let mut handled = 0;
        loop {
            let mut position = self.stored.position;
            let outcome = self.read(every, |event| {
                handler(event).map_err(failed(event.position))?;
                position = event.position + 1;
                handled += 1;
                Ok(())
            });
            if position > self.stored.position {
                self.advance(position)?;
            }
            match outcome {
                Ok(0) => return Ok(handled),
                Ok(_) => {}
                Err(e) => {
                    self.replay = None;
                    return Err(e);
                }
            }
        }
    }

    /// Handles each event up to what is durable now; the handler changes the result, which is stored *together with*
    /// the cursor after each group of up to `every`, in one file replaced whole. Says how many were handled.
    ///
    /// Whatever happens, the stored result is that of each event before the cursor handled exactly once. After a failure of
    /// the handler it is that of the last group stored. The result is written whole each time: at most
    /// [`MAX_RESULT`](crate::MAX_RESULT) bytes.
    pub fn effectively_once(
        &mut self,
        every: usize,
        mut handler: impl FnMut(&mut Vec<u8>, &Recorded<'_>) -> std::result::Result<(), HandlerError>,
    ) -> Result<u64> {
        let mut handled = 0;
        loop {
            let Cursor {
                mut position,
                mut result,
            } = self.stored.clone();
            let outcome = self.read(every, |event| {
                handler(&mut result, event).map_err(failed(event.position))?;
                position = event.position + 1;
                Ok(())
            });
            match outcome {
                Ok(0) => return Ok(handled),
                Ok(read) => {
                    self.store(Cursor { position, result })?;
                    handled += read;
                }
                Err(e) => {
                    self.replay = None;
                    return Err(e);
                }
            }
        }
    }

    /// Up to `every` events from the cursor on, and how many there were.
    fn read(&mut self, every: usize, mut each: impl FnMut(&Recorded<'_>) -> Result<()>) -> Result<u64> {
        let replay = match &mut self.replay {
            Some(replay) => replay,
            none => none.insert(self.reader.replay(self.stored.position)?),
        };
        replay.refresh()?;
        let mut expected = self.stored.position;
        let mut read = 0;
        while read < every.max(1) as u64 {
            let Some(event) = replay.next_event()? else { break };
            if event.position != expected && !self.over_gaps {
                return Err(Error::BelowFirst {
                    asked: expected,
                    first: event.position,
                });
            }
            expected = event.position + 1;
            each(&event)?;
            read += 1;
        }
        Ok(read)
    }

    fn advance(&mut self, position: u64) -> Result<()> {
        let before = std::mem::replace(&mut self.stored.position, position);
        let stored = cursor::store(&*self.medium, &self.journal, &self.name, &self.stored);
        stored.inspect_err(|_| self.stored.position = before)
    }

    fn store(&mut self, cursor: Cursor) -> Result<()> {
        cursor::store(&*self.medium, &self.journal, &self.name, &cursor)?;
        self.stored = cursor;
        Ok(())
    }
}

fn failed(position: u64) -> impl FnOnce(HandlerError) -> Error {
    move |cause| Error::Handler { position, cause }
}

/// Events read and not yet handled.
#[derive(Default)]
struct Group {
    events: Vec<(OwnedEvent, bool, Vec<u8>)>,
}

impl Group {
    fn push(&mut self, event: &Recorded<'_>) {
        let extension = event.extension.to_vec();
        self.events.push((event.to_owned(), event.batch_end, extension));
    }

    fn end(&self, first: u64) -> u64 {
        self.events.last().map_or(first, |(event, ..)| event.position + 1)
    }

    fn iter(&self) -> impl Iterator<Item = Recorded<'_>> {
        let events = self.events.iter();
        events.map(|(event, batch_end, extension)| event.lend(extension, *batch_end))
    }
}

fn lock(reader: &Reader, name: &str) -> Result<Flock> {
    let path = reader.dir().join(DIRECTORY).join(format!("{name}.lock"));
    Flock::take_path(&path)?.map_err(|_| Error::ProjectionBusy {
        name: name.to_owned(),
    })
}

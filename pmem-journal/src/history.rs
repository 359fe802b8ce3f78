//! An entity's state from what is kept of it: its newest good snapshot, then the events after.

use crate::error::{Error, Result};
use crate::event::{EntityId, OwnedEvent};
use crate::format::JournalId;
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium};
use crate::reader::Reader;
use crate::segment::{self, Header};
use crate::select::{Selected, Selection};
use crate::snapshot::{FoundSnapshot, RefusedSnapshot, Snapshot};
use crate::snapshot_format::SnapshotChecks;
use crate::snapshot_slots;

/// Snapshot and later events of one entity. The events are an iterator, which ends after its first error.
///
/// An event that is missing between the snapshot and the next one kept is [`Error::HistoryLost`], never passed over.
///
/// ```
/// use pmem_journal::{EntityId, Event, Expected, Journal, Snapshot};
///
/// # fn main() -> Result<(), pmem_journal::Error> {
/// # let temporary = tempfile::tempdir().unwrap();
/// let (journal, _) = Journal::open(temporary.path())?;
/// let account = EntityId::named("account-17");
/// let appended = journal.append(&[Event::new(account, 1, b"5"), Event::new(account, 1, b"7")], Expected::Any)?;
/// journal.save_snapshots(&[Snapshot::new(account, appended.sequence, appended.last_position, b"12")], 2)?;
/// journal.append(&[Event::new(account, 1, b"30")], Expected::Any)?;
///
/// let mut history = journal.history(account)?;
/// let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
/// let mut balance = history.take_snapshot().map_or(0, |snapshot| number(&snapshot.payload));
/// for event in history {
///     balance += number(&event?.payload);
/// }
/// assert_eq!(balance, 42);
/// # Ok(())
/// # }
/// ```
pub struct History {
    entity: EntityId,
    found: FoundSnapshot,
    /// Sequence that the next event must have.
    expected: u64,
    tail: Option<Selected>,
}

impl Reader {
    /// The newest good snapshot of the entity, and which could not be used.
    pub fn snapshot(&self, entity: EntityId) -> Result<FoundSnapshot> {
        let medium = FileMedium::new(self.dir());
        let journal = journal_id(&medium, self)?;
        snapshot_slots::find(&medium, &journal, entity, u64::MAX, SnapshotChecks::ALL)
    }

    /// What is kept of the entity: its newest good snapshot, and its events after that, up to what is durable now.
    pub fn history(&self, entity: EntityId) -> Result<History> {
        let found = self.snapshot(entity)?;
        History::new(self, entity, found)
    }
}

impl Journal {
    /// What is kept of the entity: its newest good snapshot, and its events after that, up to what is durable now.
    pub fn history(&self, entity: EntityId) -> Result<History> {
        let found = self.snapshot(entity)?;
        History::new(&self.reader(), entity, found)
    }
}

impl History {
    fn new(reader: &Reader, entity: EntityId, found: FoundSnapshot) -> Result<History> {
        let events = |from| reader.select(Selection::Entity(entity), from);
        let tail = match &found.snapshot {
            Some(snapshot) => match events(Some(snapshot.position.saturating_add(1))) {
                Err(Error::BelowFirst { .. }) => events(None),
                other => other,
            },
            None => events(None),
        };
        Ok(History {
            entity,
            expected: found.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence) + 1,
            found,
            tail: Some(tail?),
        })
    }

    /// The snapshot that the events go on from; `None` if the entity's events are all there.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.found.snapshot.as_ref()
    }

    /// As [`History::snapshot`], to keep.
    pub fn take_snapshot(&mut self) -> Option<Snapshot> {
        self.found.snapshot.take()
    }

    /// Snapshots that could not be used; the one given may be older than they were.
    pub fn refused(&self) -> &[RefusedSnapshot] {
        &self.found.refused
    }

    fn next_of_entity(&mut self) -> Result<Option<OwnedEvent>> {
        let Some(tail) = &mut self.tail else {
            return Ok(None);
        };
        while let Some(event) = tail.next_event()? {
            if event.sequence < self.expected {
                continue;
            }
            if event.sequence != self.expected {
                return Err(Error::HistoryLost {
                    entity: self.entity,
                    expected: self.expected,
                    found: event.sequence,
                    refused: self.found.refused.len(),
                });
            }
            self.expected += 1;
            return Ok(Some(event.to_owned()));
        }
        Ok(None)
    }
}

impl Iterator for History {
    type Item = Result<OwnedEvent>;

    fn next(&mut self) -> Option<Result<OwnedEvent>> {
        let next = self.next_of_entity();
        if !matches!(next, Ok(Some(_))) {
            self.tail = None;
        }
        next.transpose()
    }
}

/// The id of the journal in the reader's directory.
pub(crate) fn journal_id(medium: &dyn Medium, reader: &Reader) -> Result<JournalId> {
    let last = Listing::read(medium)?.segments.pop();
    let name = segment::name(last.ok_or_else(|| Error::NotAJournal {
        dir: reader.dir().to_owned(),
    })?);
    let file = medium
        .open(&name, Access::Read)
        .map_err(Error::io("open", &name))?;
    Ok(Header::read(&*file, &name)?.journal)
}

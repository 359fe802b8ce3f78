//! Where snapshots are kept.
//!
//! Each entity has [`MAX_KEEP`] slots, files of fixed names in the directory `snapshots`; saving replaces the oldest. A
//! snapshot is written under another name, made durable, and only then gets its slot's name, so that a crash at any
//! moment leaves the one before. Each is verified when it is loaded: a bad one is passed over for the one before it,
//! and the answer says so. A snapshot is never taken for events that the journal itself has lost.

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::event::EntityId;
use crate::format::JournalId;
use crate::journal::Journal;
use crate::medium::{Access, Medium, UNFINISHED};
use crate::reserve::Reserve;
use crate::snapshot::{FoundSnapshot, RefusedSnapshot, Snapshot};
use crate::snapshot_format::{self, MAX_SNAPSHOT, SnapshotChecks};

/// Directory of snapshots, in the journal's.
pub(crate) const DIRECTORY: &str = "snapshots";
/// Snapshots that can be kept of one entity.
pub const MAX_KEEP: usize = 8;
const SUFFIX: &str = ".snap";

/// Whose snapshot a file's name says it is; `None` for any other file.
pub(crate) fn entity_of(name: &str) -> Option<EntityId> {
    let (entity, slot) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let entity = EntityId(u128::from_str_radix(entity, 16).ok()?);
    let slot: usize = slot.parse().ok()?;
    (slot < MAX_KEEP && format!("{DIRECTORY}/{name}") == path(entity, slot)).then_some(entity)
}

/// All files of snapshots, good and bad, by the name they have in the journal's directory, and whose they say they are.
pub(crate) fn files(medium: &dyn Medium) -> io::Result<Vec<(String, EntityId)>> {
    let mut names = match medium.directory(DIRECTORY).list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    names.sort_unstable();
    let file = |name: String| entity_of(&name).map(|entity| (format!("{DIRECTORY}/{name}"), entity));
    Ok(names.into_iter().filter_map(file).collect())
}

fn path(entity: EntityId, slot: usize) -> String {
    format!("{DIRECTORY}/{entity}-{slot}{SUFFIX}")
}

/// One slot of an entity: what is in it, or why that cannot be used.
pub(crate) struct Slot {
    number: usize,
    pub(crate) found: std::result::Result<Snapshot, RefusedSnapshot>,
}

/// All slots in use of an entity.
pub(crate) fn slots(
    medium: &dyn Medium,
    journal: &JournalId,
    entity: EntityId,
    end: u64,
    checks: SnapshotChecks,
) -> Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for number in 0..MAX_KEEP {
        let file = path(entity, number);
        let found = match medium.open(&file, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => Err(e.to_string()),
            Ok(open) => snapshot_format::read(&*open, journal, entity, checks),
        };
        let found = found.and_then(|snapshot| {
            if snapshot.position < end {
                Ok(snapshot)
            } else {
                Err(format!(
                    "it knows position {}, and the journal ends before {end}",
                    snapshot.position
                ))
            }
        });
        let found = found.map_err(|cause| RefusedSnapshot { file, cause });
        slots.push(Slot { number, found });
    }
    Ok(slots)
}

/// The newest good snapshot below position `end`.
pub(crate) fn find(
    medium: &dyn Medium,
    journal: &JournalId,
    entity: EntityId,
    end: u64,
    checks: SnapshotChecks,
) -> Result<FoundSnapshot> {
    let mut out = FoundSnapshot::default();
    for slot in slots(medium, journal, entity, end, checks)? {
        match slot.found {
            Ok(snapshot) => {
                if out
                    .snapshot
                    .as_ref()
                    .is_none_or(|best| best.sequence < snapshot.sequence)
                {
                    out.snapshot = Some(snapshot);
                }
            }
            Err(refused) => out.refused.push(refused),
        }
    }
    Ok(out)
}

/// Writes one snapshot, in the place of a bad one, of the oldest, or in a new one; durable up to its name.
pub(crate) fn store(
    reserve: &Reserve,
    journal: &JournalId,
    snapshot: &Snapshot,
    keep: usize,
    end: u64,
) -> Result<()> {
    let slots = slots(
        reserve.medium(),
        journal,
        snapshot.entity,
        end,
        SnapshotChecks::ALL,
    )?;
    let of_sequence = |slot: &Slot| slot.found.as_ref().map_or(0, |found| found.sequence);
    // Its own sequence again, a bad one, an empty one, the oldest.
    let same = slots
        .iter()
        .find(|slot| slot.number < keep && of_sequence(slot) == snapshot.sequence);
    let empty = || (0..keep).find(|number| slots.iter().all(|slot| slot.number != *number));
    let oldest = || {
        let kept = slots.iter().filter(|slot| slot.number < keep);
        kept.min_by_key(|slot| of_sequence(slot)).map(|slot| slot.number)
    };
    let bad = || {
        slots
            .iter()
            .find(|slot| slot.number < keep && slot.found.is_err())
    };
    let number = same
        .or_else(bad)
        .map(|slot| slot.number)
        .or_else(empty)
        .or_else(oldest)
        .unwrap_or(0);
    let file = path(snapshot.entity, number);
    let bytes = snapshot_format::encode(journal, snapshot);
    reserve
        .store(&file, &bytes)
        .map_err(Error::writing(&file, bytes.len() as u64))
}

impl Journal {
    /// Saves snapshots, durable before this returns, and keeps the newest `keep` of each of their entities (1 to
    /// [`MAX_KEEP`]; 2 or more let a bad newest one fall back to the one before it).
    ///
    /// A snapshot must be of an event that is durable: one ahead of the journal is [`Error::SnapshotAhead`]. If saving
    /// fails, all that was saved before is still there.
    pub fn save_snapshots(&self, snapshots: &[Snapshot], keep: usize) -> Result<()> {
        if !(1..=MAX_KEEP).contains(&keep) {
            return Err(Error::BadKeep {
                given: keep,
                max: MAX_KEEP,
            });
        }
        let (journal, end) = {
            let state = self.lock();
            state.refuse_if_poisoned()?;
            (state.segment.header.journal, state.durable_events())
        };
        for snapshot in snapshots {
            let actual = self.sequence(snapshot.entity)?;
            if snapshot.sequence == 0 || snapshot.sequence > actual || snapshot.position >= end {
                return Err(Error::SnapshotAhead {
                    entity: snapshot.entity,
                    sequence: snapshot.sequence,
                    position: snapshot.position,
                    actual,
                    end,
                });
            }
            if snapshot.payload.len() > MAX_SNAPSHOT {
                return Err(Error::SnapshotTooLarge {
                    len: snapshot.payload.len() as u64,
                    max: MAX_SNAPSHOT as u64,
                });
            }
        }
        let _one = self
            .saving
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let saved = save(&self.reserve, &journal, snapshots, keep, end);
        self.reserve.refill();
        saved
    }

    /// The newest good snapshot of the entity, and which could not be used.
    pub fn snapshot(&self, entity: EntityId) -> Result<FoundSnapshot> {
        let (medium, journal, end) = {
            let state = self.lock();
            let header = &state.segment.header;
            (Arc::clone(&state.medium), header.journal, state.durable_events())
        };
        find(&*medium, &journal, entity, end, SnapshotChecks::ALL)
    }
}

/// The whole of saving, on any medium.
pub(crate) fn save(
    reserve: &Reserve,
    journal: &JournalId,
    snapshots: &[Snapshot],
    keep: usize,
    end: u64,
) -> Result<()> {
    let medium = reserve.medium();
    medium
        .make_directory(DIRECTORY)
        .map_err(Error::writing(DIRECTORY, 0))?;
    let directory = medium.directory(DIRECTORY);
    for snapshot in snapshots {
        store(reserve, journal, snapshot, keep, end)?;
    }
    directory.sync_dir().map_err(Error::io("sync", DIRECTORY))?;
    // Only now are the new ones as durable as those that go.
    for snapshot in snapshots {
        for file in (keep..MAX_KEEP).map(|number| path(snapshot.entity, number)) {
            if medium.open(&file, Access::Read).is_ok() {
                medium.remove(&file).map_err(Error::io("remove", file))?;
            }
        }
    }
    Ok(())
}

/// Removes what a crash left half written.
pub(crate) fn remove_leftovers(medium: &dyn Medium) -> io::Result<()> {
    let directory = medium.directory(DIRECTORY);
    let names = match directory.list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in names {
        if name
            .strip_suffix(UNFINISHED)
            .is_some_and(|name| entity_of(name).is_some())
        {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

//! Retention, compaction and the cold directory through the public face: what goes, what is held and why, on a full disk
//! too, and what damage does.

mod cold;
mod compacting;
mod dropping;
mod full_disk;

use std::fs;
use std::path::Path;

use pmem_journal::{EntityId, Error, Event, Expected, Journal, Mode, Options, Retention, Snapshot};

const SEGMENT: u64 = 16 << 10;

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(SEGMENT)
}

fn payload(entity: u128, sequence: u64) -> Vec<u8> {
    format!("{entity}:{sequence}:{}", "x".repeat(200)).into_bytes()
}

/// `events` events of each of three entities, in turn; the last sequence of each is `first + events - 1`.
fn append(journal: &Journal, events: u64) {
    for _ in 0..events {
        for entity in 1..=3u128 {
            let at = journal.sequence(EntityId(entity)).unwrap();
            let payload = payload(entity, at + 1);
            journal
                .append(&[Event::new(entity, 1, &payload)], Expected::Exact(at))
                .unwrap();
        }
    }
}

fn save(journal: &Journal, entity: u128) {
    let sequence = journal.sequence(EntityId(entity)).unwrap();
    let snapshot = Snapshot::new(
        entity,
        sequence,
        journal.durable_position() - 1,
        sequence.to_le_bytes(),
    );
    journal.save_snapshots(&[snapshot], 2).unwrap();
}

/// The entity's sequence by its snapshot and the events after it, each checked.
fn replayed(journal: &Journal, entity: u128) -> Result<u64, Error> {
    let mut history = journal.history(EntityId(entity))?;
    let mut at = history
        .take_snapshot()
        .map_or(0, |s| u64::from_le_bytes(s.payload.try_into().unwrap()));
    for event in history {
        let event = event?;
        at += 1;
        assert_eq!((event.sequence, &event.payload), (at, &payload(entity, at)));
    }
    Ok(at)
}

fn all_there(journal: &Journal, sequences: u64) {
    for entity in 1..=3 {
        assert_eq!(replayed(journal, entity).unwrap(), sequences);
        assert_eq!(journal.sequence(EntityId(entity)).unwrap(), sequences);
    }
}

/// Bytes of the segment files in a directory, links not counted.
fn segment_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"))
        .map(|entry| entry.path().symlink_metadata().unwrap())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum()
}

fn everything() -> Retention {
    Retention::new().below(u64::MAX)
}

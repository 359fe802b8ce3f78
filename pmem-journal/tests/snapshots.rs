//! Snapshots and histories through the public face: what is found, what is refused, and what a full disk does.

use std::fs;
use std::path::{Path, PathBuf};

use pmem_journal::{EntityId, Error, Event, Expected, Journal, Mode, Options, Reader, Snapshot};

const ENTITY: EntityId = EntityId(0xacc0);

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(8 << 10)
}

/// Events of two entities in turn; a snapshot of one of them after every tenth of its events.
fn journal_in(dir: &Path, events: u64) -> Journal {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 1..=events {
        let payload = n.to_le_bytes();
        let events = [Event::new(ENTITY, 1, &payload), Event::new(1, 1, &[0; 90])];
        let done = journal.append(&events, Expected::Any).unwrap();
        if n % 10 == 0 {
            let snapshot = Snapshot::new(ENTITY, n, done.first_position, sum(n).to_le_bytes());
            journal.save_snapshots(&[snapshot.schema(3)], 2).unwrap();
        }
    }
    journal
}

fn sum(n: u64) -> u64 {
    n * (n + 1) / 2
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

fn snapshot_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("snapshots")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The state, from the snapshot and the tail; and how many events the tail had.
fn state(mut history: pmem_journal::History) -> Result<(u64, usize), Error> {
    let mut state = history.take_snapshot().map_or(0, |s| number(&s.payload));
    let mut events = 0;
    for event in history {
        state += number(&event?.payload);
        events += 1;
    }
    Ok((state, events))
}

#[test]
fn a_state_is_its_newest_snapshot_and_the_events_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path(), 57);
    let reader = Reader::open(dir.path()).unwrap();
    for history in [journal.history(ENTITY), reader.history(ENTITY)] {
        let history = history.unwrap();
        let snapshot = history.snapshot().unwrap();
        assert_eq!((snapshot.sequence, snapshot.schema_version), (50, 3));
        assert!(history.refused().is_empty());
        assert_eq!(state(history).unwrap(), (sum(57), 7));
    }
    assert_eq!(snapshot_files(dir.path()).len(), 2, "two are kept");
    let other = journal.history(EntityId(1)).unwrap();
    assert!(other.snapshot().is_none());
    assert_eq!(other.map(Result::unwrap).count(), 57);
    assert_eq!(journal.history(EntityId(99)).unwrap().count(), 0);
}

#[test]
fn a_bad_newest_snapshot_falls_back_and_with_none_left_the_whole_history_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path(), 57);
    let damage = |sequence: u64| {
        for file in snapshot_files(dir.path()) {
            let mut bytes = fs::read(&file).unwrap();
            if number(&bytes[48..56]) == sequence {
                bytes[130] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
        }
    };
    damage(50);
    let history = journal.history(ENTITY).unwrap();
    assert_eq!(
        (history.refused().len(), history.snapshot().unwrap().sequence),
        (1, 40)
    );
    assert!(history.refused()[0].cause.contains("checksum"));
    assert_eq!(state(history).unwrap(), (sum(57), 17));
    damage(40);
    let history = journal.history(ENTITY).unwrap();
    assert_eq!(history.refused().len(), 2);
    assert_eq!(state(history).unwrap(), (sum(57), 57));
    // And with the beginning dropped there is nothing to fall back to.
    assert!(journal.drop_segments_below(40).unwrap() > 0);
    let lost = state(journal.history(ENTITY).unwrap());
    assert!(
        matches!(
            lost,
            Err(Error::HistoryLost {
                expected: 1,
                refused: 2,
                ..
            })
        ),
        "{lost:?}"
    );
}

#[test]
fn snapshots_ahead_of_the_journal_too_large_or_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path(), 5);
    for (sequence, position) in [(6, 8), (5, 10), (0, 0)] {
        let refused = journal.save_snapshots(&[Snapshot::new(ENTITY, sequence, position, b"x")], 2);
        assert!(matches!(refused, Err(Error::SnapshotAhead { .. })), "{refused:?}");
    }
    for keep in [0, pmem_journal::MAX_KEEP + 1] {
        let refused = journal.save_snapshots(&[Snapshot::new(ENTITY, 5, 8, b"x")], keep);
        assert!(matches!(refused, Err(Error::BadKeep { .. })), "{refused:?}");
    }
    let large = vec![0; pmem_journal::MAX_SNAPSHOT + 1];
    let refused = journal.save_snapshots(&[Snapshot::new(ENTITY, 5, 8, large)], 2);
    assert!(
        matches!(refused, Err(Error::SnapshotTooLarge { .. })),
        "{refused:?}"
    );
    assert!(journal.snapshot(ENTITY).unwrap().snapshot.is_none());
}

#[test]
fn keeping_fewer_removes_the_oldest_and_never_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path(), 9);
    let save = |sequence: u64, keep| {
        let snapshot = Snapshot::new(ENTITY, sequence, 2 * (sequence - 1), sum(sequence).to_le_bytes());
        journal.save_snapshots(&[snapshot], keep).unwrap();
        assert_eq!(
            journal.snapshot(ENTITY).unwrap().snapshot.unwrap().sequence,
            sequence
        );
    };
    for (sequence, keep, files) in [
        (1, 3, 1),
        (2, 3, 2),
        (3, 3, 3),
        (3, 3, 3),
        (4, 3, 3),
        (5, 1, 1),
        (6, 8, 2),
    ] {
        save(sequence, keep);
        assert_eq!(snapshot_files(dir.path()).len(), files, "{sequence}");
    }
}

#[test]
fn files_of_garbage_among_the_snapshots_do_no_harm_and_a_half_written_one_goes_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path(), 20);
    let entity = format!("{ENTITY}");
    let snapshots = dir.path().join("snapshots");
    fs::write(snapshots.join(format!("{entity}-5.snap")), b"PMJSNAPS garbage").unwrap();
    fs::create_dir(snapshots.join(format!("{entity}-6.snap"))).unwrap();
    fs::write(snapshots.join(format!("{entity}-7.snap.new")), b"half").unwrap();
    fs::write(snapshots.join("notes.txt"), b"mine").unwrap();
    let found = journal.snapshot(ENTITY).unwrap();
    assert_eq!((found.snapshot.unwrap().sequence, found.refused.len()), (20, 2));
    drop(journal);
    drop(Journal::open_with(dir.path(), &options()).unwrap());
    assert!(!snapshots.join(format!("{entity}-7.snap.new")).exists());
    assert!(snapshots.join("notes.txt").exists());
}

#[test]
fn another_journals_snapshot_is_not_believed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (journal_in(one.path(), 20), journal_in(two.path(), 20));
    for file in snapshot_files(one.path()) {
        fs::copy(
            &file,
            two.path().join("snapshots").join(file.file_name().unwrap()),
        )
        .unwrap();
    }
    let found = b.snapshot(ENTITY).unwrap();
    assert_eq!((found.snapshot, found.refused.len()), (None, 2));
    assert!(a.snapshot(ENTITY).unwrap().snapshot.is_some());
}

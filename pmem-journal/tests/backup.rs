//! Backups of a journal that is being written, and what may stand in their way.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use pmem_journal::{
    EntityId, Error, Event, Expected, Held, Journal, Mode, Options, Projection, Reader, Retention, Snapshot,
};

fn options(mode: Mode) -> Options {
    Options::new().require(mode).segment_size(32 << 10)
}

fn append(journal: &Journal, entity: u128) -> u64 {
    let at = journal.sequence(EntityId(entity)).unwrap() + 1;
    let payload = at.to_le_bytes().repeat(20);
    let pair = [Event::new(entity, 1, &payload), Event::new(entity, 1, &payload)];
    journal.append(&pair, Expected::Any).unwrap().last_position
}

/// Tells a thread that goes on until then to end, with a test that fails as with one that does not.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_beside_a_writer_is_a_prefix_with_everything_acknowledged_before_it_began() {
    for mode in [Mode::Buffered, Mode::Volatile] {
        let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (journal, _) = Journal::open_with(dir.path(), &options(mode)).unwrap();
        for _ in 0..300 {
            append(&journal, 1);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let position = append(&journal, 1);
                    let sequence = journal.sequence(EntityId(1)).unwrap();
                    if sequence % 64 == 0 {
                        let snapshot = Snapshot::new(1, sequence, position, b"state");
                        journal.save_snapshots(&[snapshot], 2).unwrap();
                    }
                }
            });
            let stops = Stops(&stop);
            for round in 0..4 {
                let to = away.path().join(format!("{round}"));
                let before = journal.durable_position();
                let backup = Reader::open(dir.path()).unwrap().backup(&to, &|_| {}).unwrap();
                assert!(backup.next_position >= before, "{backup:?} after {before}");
                let copy = Reader::open(&to).unwrap();
                let report = copy.verify().unwrap();
                assert_eq!(
                    (report.next_position, report.first_position),
                    (backup.next_position, 0)
                );
                let mut theirs = Reader::open(dir.path()).unwrap().replay(0).unwrap();
                let mut ours = copy.replay(0).unwrap();
                while let Some(event) = ours.next_event().unwrap() {
                    assert_eq!(event.to_owned(), theirs.next_event().unwrap().unwrap().to_owned());
                }
                // It goes on like any journal, from its own end.
                let (restored, _) = Journal::open_with(&to, &options(mode)).unwrap();
                assert_eq!(restored.sequence(EntityId(1)).unwrap(), backup.next_position);
                let snapshot = restored.snapshot(EntityId(1)).unwrap();
                assert!(snapshot.refused.is_empty());
                assert!(
                    snapshot
                        .snapshot
                        .is_none_or(|s| s.position < backup.next_position)
                );
                append(&restored, 1);
            }
            drop(stops);
        });
    }
}

#[test]
fn floors_snapshots_and_cursors_come_along_and_bad_or_later_ones_do_not() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cold = away.path().join("cold");
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    for _ in 0..500 {
        append(&journal, 1);
        append(&journal, 2);
    }
    let at = |entity| journal.sequence(EntityId(entity)).unwrap();
    let position = journal.durable_position() - 1;
    let of = |entity: u128| Snapshot::new(entity, at(entity), position, b"state");
    journal.save_snapshots(&[of(1), of(2)], 2).unwrap();
    journal.cool(&cold, 64 << 10).unwrap();
    journal
        .retain(&Retention::new().below(800).covered_by(1))
        .unwrap();
    let bad = fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(bad, b"rotten").unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let mut projection = Projection::open(&reader, "p").unwrap();
    projection.reset(1_000, b"result").unwrap();

    let to = away.path().join("backup");
    let backup = reader.backup(&to, &|_| {}).unwrap();
    assert!(backup.first_position > 0 && backup.next_position == 2_000);
    assert_eq!(backup.snapshots, 1);
    let (restored, _) = Journal::open_with(&to, &options(Mode::Buffered)).unwrap();
    assert_eq!(restored.sequence(EntityId(2)).unwrap(), at(2));
    let copied = Projection::open(&Reader::open(&to).unwrap(), "p").unwrap();
    assert_eq!((copied.position(), copied.result()), (1_000, &b"result"[..]));
    // The copy needs nothing of the cold directory.
    assert!(
        fs::read_dir(&to)
            .unwrap()
            .all(|entry| !entry.unwrap().path().is_symlink())
    );
}

#[test]
fn what_is_in_the_way_is_named_and_upkeep_waits_for_the_copy() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    for _ in 0..300 {
        append(&journal, 1);
    }
    let reader = Reader::open(dir.path()).unwrap();
    let exists = reader.backup(away.path(), &|_| {});
    assert!(matches!(exists, Err(Error::BackupDirectory { .. })), "{exists:?}");
    let to = away.path().join("backup");
    let retain = || {
        journal
            .retain(&Retention::new().below(u64::MAX).without_snapshots())
            .unwrap()
    };
    reader
        .backup(&to, &|_| assert_eq!(retain().held, Some(Held::Backup)))
        .unwrap();
    assert!(retain().segments > 0);
    fs::create_dir(away.path().join("again.unfinished")).unwrap();
    let broken_off = reader.backup(away.path().join("again"), &|_| {});
    assert!(
        matches!(broken_off, Err(Error::BackupDirectory { .. })),
        "{broken_off:?}"
    );

    // A damaged journal makes no backup, and leaves nothing that looks like one.
    let segment = reader.sealed_segments();
    assert!(segment.unwrap().is_empty());
    for _ in 0..300 {
        append(&journal, 1);
    }
    let sealed = reader.sealed_segments().unwrap()[0].path.clone();
    let mut bytes = fs::read(&sealed).unwrap();
    bytes[5000] ^= 1;
    fs::write(&sealed, bytes).unwrap();
    let refused = reader.backup(away.path().join("third"), &|_| {});
    assert!(matches!(refused, Err(Error::Corruption { .. })), "{refused:?}");
    let left: Vec<_> = fs::read_dir(away.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

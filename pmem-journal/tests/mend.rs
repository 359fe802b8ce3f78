//! Truncating and repairing: what is cut, what is kept, what is set aside, and what refuses.

use std::fs;
use std::path::{Path, PathBuf};

use pmem_journal::{
    EntityId, Error, Event, Expected, Journal, Mode, Options, Reader, Repair, Snapshot, repair, truncate,
};

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(8 << 10)
}

/// 60 batches of two events, over several segments; closed.
fn journal_in(dir: &Path) {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..60u64 {
        let (a, b) = ([n as u8; 200], [n as u8; 150]);
        let done = journal
            .append(&[Event::new(1, 1, &a), Event::new(2, 1, &b)], Expected::Any)
            .unwrap();
        if n % 20 == 10 {
            let snapshot = Snapshot::new(1, n + 1, done.first_position, n.to_le_bytes());
            journal.save_snapshots(&[snapshot], 8).unwrap();
        }
    }
    journal.close().unwrap();
}

fn positions(dir: &Path) -> Vec<u64> {
    let replay = Reader::open(dir).unwrap().replay_kept().unwrap();
    replay.owned().map(|event| event.unwrap().position).collect()
}

fn segment(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}.seg"))
}

fn damage(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// It opens, verifies, holds exactly the events below `end`, and goes on.
fn goes_on_from(dir: &Path, end: u64) {
    assert_eq!(positions(dir), (0..end).collect::<Vec<_>>());
    let (journal, recovery) = Journal::open_with(dir, &options()).unwrap();
    assert_eq!(recovery.next_position, end);
    assert_eq!(journal.sequence(EntityId(1)).unwrap(), end / 2);
    let done = journal
        .append(&[Event::new(1, 1, b"after")], Expected::Exact(end / 2))
        .unwrap();
    assert_eq!(done.first_position, end);
    let found = journal.snapshot(EntityId(1)).unwrap();
    assert!(found.refused.is_empty() && found.snapshot.is_none_or(|s| s.position < end));
    journal.close().unwrap();
    assert!(Reader::open(dir).unwrap().verify().is_ok());
}

#[test]
fn truncating_cuts_at_any_batch_and_sets_everything_else_aside() {
    for to in [0, 1, 2, 17, 18, 19, 20, 21, 60, 101, 119] {
        let dir = tempfile::tempdir().unwrap();
        journal_in(dir.path());
        let end = to / 2 * 2;
        let planned = truncate(dir.path(), to, false).unwrap();
        assert_eq!(
            (planned.position, planned.end, &planned.set_aside),
            (end, 120, &None)
        );
        assert_eq!(positions(dir.path()).len(), 120, "a dry run");
        let done = truncate(dir.path(), to, true).unwrap();
        assert_eq!(
            (done.position, done.snapshots.len()),
            (end, planned.snapshots.len())
        );
        // Its last segment as it was, those after it, and the snapshots that knew too much.
        let aside = fs::read_dir(done.set_aside.unwrap()).unwrap();
        let aside: Vec<_> = aside
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        let ending = |e: &str| aside.iter().filter(|name| name.ends_with(e)).count();
        assert_eq!(ending(".seg") as u64, done.segments + 1, "{aside:?}");
        assert_eq!(
            ending(".snap"),
            [10, 30, 50].iter().filter(|n| 2 * **n >= end).count()
        );
        goes_on_from(dir.path(), end);
    }
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    let nothing = truncate(dir.path(), 120, true).unwrap();
    assert_eq!((nothing.position, nothing.set_aside), (120, None));
    goes_on_from(dir.path(), 120);
}

#[test]
fn a_living_writer_a_dropped_position_and_damage_refuse_to_be_truncated() {
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    for apply in [false, true] {
        let locked = truncate(dir.path(), 3, apply).map(drop);
        assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
        let locked = repair(dir.path(), apply).map(drop);
        assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    }
    assert!(journal.drop_segments_below(60).unwrap() > 0);
    drop(journal);
    let dropped = truncate(dir.path(), 3, true);
    assert!(
        matches!(dropped, Err(Error::BelowFirst { asked: 3, .. })),
        "{dropped:?}"
    );
    let last = Reader::open(dir.path())
        .unwrap()
        .sealed_segments()
        .unwrap()
        .pop()
        .unwrap();
    damage(&last.path, 4200);
    let corrupt = truncate(dir.path(), 100, true);
    assert!(matches!(corrupt, Err(Error::Corruption { .. })), "{corrupt:?}");
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(
        truncate(none.path(), 0, true),
        Err(Error::NotAJournal { .. })
    ));
    assert!(matches!(
        repair(none.path(), true),
        Err(Error::NotAJournal { .. })
    ));
    assert_eq!(fs::read_dir(none.path()).unwrap().count(), 0);
}

#[test]
fn a_journal_in_order_needs_no_repair() {
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    let done = repair(dir.path(), true).unwrap();
    assert_eq!((done.repairs, done.set_aside), (vec![], None));
    goes_on_from(dir.path(), 120);
}

#[test]
fn a_damaged_footer_is_written_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    for index in [1, 3] {
        damage(&segment(dir.path(), index), (8 << 10) - 20);
    }
    assert!(Reader::open(dir.path()).unwrap().verify().is_err());
    let planned = repair(dir.path(), false).unwrap();
    assert!(
        matches!(&planned.repairs[..], [Repair::Footer { .. }]),
        "{planned:?}"
    );
    assert!(Reader::open(dir.path()).unwrap().verify().is_err(), "a dry run");
    let done = repair(dir.path(), true).unwrap();
    assert_eq!((done.repairs.len(), done.set_aside), (2, None));
    goes_on_from(dir.path(), 120);
}

#[test]
fn what_cannot_be_mended_is_cut_off_and_set_aside_with_the_loss_said() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("a record", |dir| damage(&segment(dir, 2), 4096 + 700)),
        ("a header", |dir| damage(&segment(dir, 2), 50)),
        ("a file lost", |dir| fs::remove_file(segment(dir, 2)).unwrap()),
        ("a file cut short", |dir| {
            fs::File::options()
                .write(true)
                .open(segment(dir, 2))
                .unwrap()
                .set_len(5000)
                .unwrap();
        }),
    ];
    for (what, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        journal_in(dir.path());
        let sealed = Reader::open(dir.path()).unwrap().sealed_segments().unwrap();
        let (before, after) = (sealed[2].first_position, sealed[2].next_position);
        harm(dir.path());
        let planned = repair(dir.path(), false).unwrap();
        let done = repair(dir.path(), true).unwrap();
        let cut = |repairs: &[Repair]| match repairs.first() {
            Some(Repair::Cut {
                position, lost_to, ..
            }) => (*position, *lost_to),
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(cut(&planned.repairs), cut(&done.repairs), "{what}");
        let (position, lost_to) = cut(&done.repairs);
        assert!((before..after).contains(&position), "{what}: {position}");
        assert!(
            lost_to.is_some_and(|lost_to| lost_to > after),
            "{what}: {lost_to:?}"
        );
        let later = sealed.last().unwrap().index;
        assert!(
            done.set_aside
                .unwrap()
                .join(segment(Path::new(""), later))
                .exists(),
            "{what}"
        );
        goes_on_from(dir.path(), position);
    }
}

#[test]
fn a_journal_without_a_beginning_is_beyond_repair_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    damage(&segment(dir.path(), 0), 50);
    let names = || -> usize { fs::read_dir(dir.path()).unwrap().count() };
    let before = names();
    let refused = repair(dir.path(), true);
    assert!(
        matches!(refused, Err(Error::Corruption { offset: 0, .. })),
        "{refused:?}"
    );
    assert_eq!(names(), before);
}

#[test]
fn bad_snapshots_are_set_aside_and_bad_cursors_named() {
    let dir = tempfile::tempdir().unwrap();
    journal_in(dir.path());
    let snapshot = fs::read_dir(dir.path().join("snapshots"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    damage(&snapshot, 129);
    fs::create_dir(dir.path().join("projections")).unwrap();
    fs::write(dir.path().join("projections/p.cursor"), b"rotten").unwrap();
    let done = repair(dir.path(), true).unwrap();
    assert!(
        matches!(
            &done.repairs[..],
            [Repair::Snapshot { .. }, Repair::Cursor { .. }]
        ),
        "{done:?}"
    );
    assert!(!snapshot.exists());
    assert!(
        done.set_aside
            .unwrap()
            .join(snapshot.file_name().unwrap())
            .exists()
    );
    assert!(dir.path().join("projections/p.cursor").exists());
    goes_on_from(dir.path(), 120);
}

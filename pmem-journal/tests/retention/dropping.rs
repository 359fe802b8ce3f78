//! Which segments go by which rule, and what holds them.

use std::fs;
use std::time::Duration;

use pmem_journal::{Compaction, EntityId, Error, Held, Journal, Projection, Reader, Retention};

use crate::{SEGMENT, all_there, append, everything, options, replayed, save, segment_bytes};

#[test]
fn nothing_goes_that_two_good_snapshots_do_not_cover() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 60);
    let held = journal.retain(&everything()).unwrap();
    assert_eq!(held.segments, 0);
    assert!(
        matches!(held.held, Some(Held::Uncovered { covered: 0, .. })),
        "{held:?}"
    );
    for entity in [1, 2, 3] {
        save(&journal, entity);
    }
    append(&journal, 60);
    assert_eq!(
        journal.retain(&everything()).unwrap().segments,
        0,
        "one snapshot each"
    );
    save(&journal, 1);
    save(&journal, 2);
    let held = journal.retain(&everything()).unwrap();
    assert!(
        matches!(
            held.held,
            Some(Held::Uncovered {
                entity: EntityId(3),
                ..
            })
        ),
        "{held:?}"
    );
    save(&journal, 3);
    let planned = journal.retain(&everything().dry_run(true)).unwrap();
    assert_eq!(
        Reader::open(dir.path()).unwrap().first_position().unwrap(),
        0,
        "a dry run"
    );
    let went = journal.retain(&everything()).unwrap();
    assert_eq!(went, planned);
    // What the older snapshots cover went, and no more.
    let first = went.first_position.unwrap();
    assert!(went.segments >= 2 && (1..=180).contains(&first), "{went:?}");
    all_there(&journal, 120);
    // The newest snapshots go bad: the ones before have every event after them.
    for entry in fs::read_dir(dir.path().join("snapshots")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if u64::from_le_bytes(bytes[48..56].try_into().unwrap()) == 120 {
            bytes[128] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    all_there(&journal, 120);
    let held = journal.retain(&everything()).unwrap();
    assert_eq!(
        (held.segments, held.held.is_some()),
        (0, true),
        "bad snapshots cover nothing"
    );
    drop(journal);
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    all_there(&journal, 120);
}

#[test]
fn rules_name_by_age_and_size_and_a_caller_may_do_without_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 200);
    let none = journal.retain(&Retention::new().without_snapshots()).unwrap();
    assert_eq!((none.segments, none.held), (0, None));
    let young = Retention::new()
        .without_snapshots()
        .older_than(Duration::from_secs(3600));
    assert_eq!(journal.retain(&young).unwrap().segments, 0);
    let before = segment_bytes(dir.path());
    let large = Retention::new()
        .without_snapshots()
        .larger_than(before - 2 * SEGMENT + 1);
    assert_eq!(journal.retain(&large).unwrap().segments, 2);
    assert_eq!(segment_bytes(dir.path()), before - 2 * SEGMENT);
    std::thread::sleep(Duration::from_millis(20));
    let old = Retention::new()
        .without_snapshots()
        .older_than(Duration::from_millis(10));
    assert!(journal.retain(&old).unwrap().segments > 3);
    let sealed = Reader::open(dir.path()).unwrap().sealed_segments().unwrap();
    assert_eq!(sealed.len(), 0);
    assert_eq!(journal.sequence(EntityId(2)).unwrap(), 200);
    let lost = replayed(&journal, 2);
    assert!(
        matches!(lost, Err(Error::HistoryLost { expected: 1, .. })),
        "{lost:?}"
    );
}

#[test]
fn a_projection_holds_what_it_has_still_to_see() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 100);
    let reader = Reader::open(dir.path()).unwrap();
    let mut slow = Projection::open(&reader, "slow").unwrap();
    slow.reset(150, b"").unwrap();
    let rules = everything().without_snapshots();
    let held = journal.retain(&rules).unwrap();
    assert!(
        matches!(held.held, Some(Held::Projection { position: 150, .. })),
        "{held:?}"
    );
    assert!(held.first_position.unwrap() <= 150);
    let compacted = journal.compact(&Compaction::new().newest_only()).unwrap();
    assert!(
        matches!(compacted.held, Some(Held::Projection { position: 150, .. })),
        "{compacted:?}"
    );
    assert_eq!(
        slow.at_least_once(64, |_| Ok(())).unwrap(),
        150,
        "it missed nothing"
    );
    assert!(journal.retain(&rules).unwrap().segments > 0);
}

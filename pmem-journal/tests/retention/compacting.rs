//! What compaction takes out, and what it leaves.

use pmem_journal::{Compaction, EntityId, Error, Event, Expected, Journal, Projection, Reader, Snapshot};

use crate::{append, options, segment_bytes};

#[test]
fn compaction_takes_out_what_is_covered_and_leaves_everything_else_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 100);
    // A batch of two entities, of which one is never covered.
    let batch = [Event::new(1, 7, b"both").key(5), Event::new(3, 7, b"both").key(5)];
    let both = journal.append(&batch, Expected::Any).unwrap();
    let owned = |journal: &Journal| -> Vec<pmem_journal::OwnedEvent> {
        journal
            .replay_kept()
            .unwrap()
            .owned()
            .map(Result::unwrap)
            .collect()
    };
    for _ in 0..2 {
        for entity in [1u128, 2] {
            let at = journal.sequence(EntityId(entity)).unwrap();
            let snapshot = Snapshot::new(entity, at, journal.durable_position() - 1, b"state");
            journal.save_snapshots(&[snapshot], 2).unwrap();
        }
        for _ in 0..100 {
            journal
                .append(&[Event::new(2, 1, &[1; 100])], Expected::Any)
                .unwrap();
            journal
                .append(&[Event::new(1, 1, &[1; 100])], Expected::Any)
                .unwrap();
        }
    }
    let before = owned(&journal);
    let reader = Reader::open(dir.path()).unwrap();
    let mut slow = reader.replay(0).unwrap();
    slow.next_event().unwrap();
    let bytes = segment_bytes(dir.path());
    let planned = journal.compact(&Compaction::new().dry_run(true)).unwrap();
    assert_eq!(segment_bytes(dir.path()), bytes);
    let done = journal.compact(&Compaction::new()).unwrap();
    assert_eq!(done, planned);
    assert!(done.segments > 1 && done.events > 100, "{done:?}");
    assert_eq!(segment_bytes(dir.path()), bytes - done.bytes);
    let after = owned(&journal);
    assert_eq!(after.len() as u64, before.len() as u64 - done.events);
    // Every event that is left is what it was; those of entity 3 and the mixed batch are all there.
    assert!(
        after
            .iter()
            .all(|event| before[event.position as usize] == *event)
    );
    let of_third = |events: &[pmem_journal::OwnedEvent]| events.iter().filter(|e| e.entity.0 == 3).count();
    assert_eq!(of_third(&after), of_third(&before));
    assert!(
        after.iter().any(|e| e.position == both.first_position)
            && after.iter().any(|e| e.position == both.last_position)
    );
    // A reader in the middle sees the old segment to its end, and then whatever is kept.
    let mut last = 0;
    while let Some(event) = slow.next_event().unwrap() {
        assert!(event.position > last);
        last = event.position;
    }
    assert_eq!(last + 1, before.len() as u64);
    let again = journal.compact(&Compaction::new()).unwrap();
    assert_eq!(again.events, 0, "there is nothing more to take out");
    // By entity and by key, before and after an open.
    let retry = |journal: &Journal| journal.append(&batch, Expected::Any).unwrap();
    assert_eq!(
        (retry(&journal).first_position, retry(&journal).duplicate),
        (both.first_position, true)
    );
    assert!(reader.verify().is_ok());
    drop(journal);
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    assert!(retry(&journal).duplicate);
    assert_eq!(owned(&journal), after);
    for entity in 1..=3u128 {
        let newest = before.iter().rfind(|e| e.entity.0 == entity).unwrap();
        assert_eq!(journal.sequence(EntityId(entity)).unwrap(), newest.sequence);
        let select = pmem_journal::Selection::Entity(EntityId(entity));
        let selected = reader.select(select, None).unwrap().owned().map(Result::unwrap);
        assert!(selected.eq(after.iter().filter(|e| e.entity.0 == entity).cloned()));
    }
    // What projections would miss they are told of.
    let mut projection = Projection::open(&reader, "late").unwrap();
    let told = projection.at_least_once(100, |_| Ok(()));
    assert!(matches!(told, Err(Error::BelowFirst { .. })), "{told:?}");
    let mut seen = 0;
    projection
        .over_gaps(true)
        .at_least_once(100, |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert!(seen > 0);
}

#[test]
fn newest_only_keeps_each_entitys_newest_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 100);
    for _ in 0..100 {
        let at = journal.sequence(EntityId(9)).unwrap();
        journal
            .append(&[Event::new(9, 1, &[0; 200])], Expected::Exact(at))
            .unwrap();
    }
    journal.compact(&Compaction::new().newest_only()).unwrap();
    for entity in 1..=3u128 {
        let kept: Vec<_> = Reader::open(dir.path())
            .unwrap()
            .select(pmem_journal::Selection::Entity(EntityId(entity)), None)
            .unwrap()
            .owned()
            .map(|event| event.unwrap().sequence)
            .collect();
        assert_eq!(kept.last(), Some(&100));
        assert!(kept.len() < 40, "{kept:?}");
    }
}

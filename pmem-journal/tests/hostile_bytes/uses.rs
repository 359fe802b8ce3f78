//! Every way into a journal.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use pmem_journal::{
    Compaction, EntityId, Error, Event, Expected, Followed, Journal, Mode, Options, Projection, Reader,
    Recorded, Retention, Selection, repair, truncate,
};

use super::{Files, scratch, write};

/// Events of a good journal by their position.
pub(crate) type Known = HashMap<u64, (EntityId, u64, Vec<u8>)>;

/// More than any journal of the corpus has records, forged ones included.
const MOST_EVENTS: usize = 20_000;

pub(crate) fn options() -> Options {
    Options::new()
        .require(Mode::Buffered)
        .segment_size(8192)
        .reserve(0)
}

/// What an unchanged journal shows.
pub(crate) fn known(files: &Files) -> Known {
    let dir = scratch();
    write(dir.path(), files);
    let Ok(events) = Reader::open(dir.path()).and_then(|reader| reader.replay_kept()) else {
        return Known::new();
    };
    let kept =
        |event: pmem_journal::OwnedEvent| (event.position, (event.entity, event.sequence, event.payload));
    events.owned().map_while(Result::ok).map(kept).collect()
}

fn look(event: &Recorded<'_>, known: Option<&Known>) {
    // Whatever an extension holds, reading it is safe.
    event.tags().for_each(drop);
    let _ = event.correlation();
    if let Some(known) = known {
        let written = known.get(&event.position);
        let shown = (event.entity, event.sequence, event.payload.to_vec());
        assert_eq!(
            Some(&shown),
            written,
            "an event that nobody wrote at position {}",
            event.position
        );
    }
}

pub(crate) fn read(dir: &Path, known: Option<&Known>) {
    let Ok(reader) = Reader::open(dir) else { return };
    let _ = reader.summary();
    let _ = reader.verify();
    let _ = reader.first_position();
    for replay in [reader.replay_kept(), reader.replay(0), reader.replay(60)] {
        let Ok(mut replay) = replay else { continue };
        let mut count = 0;
        while let Ok(Some(event)) = replay.next_event() {
            look(&event, known);
            count += 1;
            assert!(count < MOST_EVENTS, "a replay without an end");
        }
    }
    for selection in [
        Selection::Entity(EntityId(1)),
        Selection::Entity(EntityId(8)),
        Selection::Tag("even".into()),
        Selection::Tag("a".into()),
    ] {
        let Ok(mut selected) = reader.select(selection, None) else {
            continue;
        };
        let mut count = 0;
        while let Ok(Some(event)) = selected.next_event() {
            look(&event, known);
            count += 1;
            assert!(count < MOST_EVENTS, "a selection without an end");
        }
    }
    if let Ok(mut follower) = reader.follow(Selection::Entity(EntityId(2)), None) {
        let mut count = 0;
        while let Ok(Followed::Event(event)) = follower.next(Duration::ZERO) {
            look(&event, known);
            count += 1;
            assert!(count < MOST_EVENTS, "a follower without an end");
        }
    }
    for entity in [EntityId(1), EntityId(2)] {
        let _ = reader.snapshot(entity);
        let _ = reader.history(entity);
    }
    let _ = Projection::open(&reader, "sum").map(|projection| projection.position());
}

/// What people do about damage, on a copy of the journal each.
pub(crate) fn mend(files: &Files) {
    let dir = scratch();
    write(dir.path(), files);
    let found = repair(dir.path(), false);
    let done = repair(dir.path(), true);
    // Behind what can be repaired there may be what cannot.
    assert!(found.is_ok() || done.is_err(), "{found:?}, and applied {done:?}");
    assert!(!matches!(done, Err(Error::Io { .. })), "{done:?}");
    if done.is_ok() {
        // What repairing leaves is in order.
        Reader::open(dir.path())
            .and_then(|reader| reader.verify())
            .expect("a repaired journal verifies");
        let _ = truncate(dir.path(), 70, true);
        Reader::open(dir.path())
            .and_then(|reader| reader.verify())
            .expect("a truncated journal verifies");
    }
}

pub(crate) fn write_on(dir: &Path) {
    let Ok((journal, recovery)) = Journal::open_with(dir, &options()) else {
        return;
    };
    let event = |entity: u128| [Event::new(entity, 1, b"goes on").key(0x5eed).tags(&["a"])];
    let mut appended = 0;
    for entity in [1, 2, 8, 99] {
        appended += u64::from(
            journal
                .append(&event(entity), Expected::Any)
                .is_ok_and(|done| !done.duplicate),
        );
    }
    journal.close().expect("a journal that could be written closes");
    match Journal::open_with(dir, &options()) {
        Ok((journal, again)) => {
            assert_eq!(again.next_position, recovery.next_position + appended);
            assert!(again.clean);
            let _ = journal.compact(&Compaction::new().covered_by(1));
            let _ = journal.retain(&Retention::new().below(70).covered_by(1));
            let _ = journal.drop_segments_below(75);
        }
        Err(error @ (Error::Poisoned { .. } | Error::Io { .. })) => panic!("{error}"),
        Err(error) => panic!("what was open once and closed is open again: {error}"),
    }
}

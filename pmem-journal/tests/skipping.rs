//! Reading a few events of many: by entity, by tag, and by position, in segments that are sealed and in the one that is being
//! written. Whatever is read, it is what reading everything gives.

use std::sync::atomic::{AtomicBool, Ordering};

use pmem_journal::{EntityId, Event, Expected, Journal, Mode, Options, OwnedEvent, Reader, Selection};

const ENTITIES: u64 = 7;

fn open(dir: &std::path::Path, segment: u64) -> Journal {
    let options = Options::new()
        .require(Mode::Buffered)
        .segment_size(segment)
        .reserve(0);
    Journal::open_with(dir, &options).unwrap().0
}

/// Appends events number `from` to `to` in batches of up to 40: their entities, tags and lengths follow from their numbers.
fn append(journal: &Journal, from: u64, to: u64) {
    let payload = vec![7; 3000];
    let mut next = from;
    while next < to {
        let batch = (1 + next * 13 % 40).min(to - next);
        let events: Vec<_> = (next..next + batch)
            .map(|n| {
                let tags: &[&str] = match n % 50 {
                    0 => &["fiftieth", "fiftieth"],
                    1 => &["other"],
                    _ => &[],
                };
                let len = (n * 31 % 97) as usize * if n.is_multiple_of(41) { 30 } else { 1 };
                Event::new(u128::from(n % ENTITIES), 1, &payload[..len]).tags(tags)
            })
            .collect();
        journal.append(&events, Expected::Any).unwrap();
        next += batch;
    }
}

fn all(reader: &Reader) -> Vec<OwnedEvent> {
    let replay = reader.replay_kept().unwrap();
    replay.owned().map(Result::unwrap).collect()
}

fn selected(reader: &Reader, selection: &Selection, from: Option<u64>) -> Vec<OwnedEvent> {
    let selected = reader.select(selection.clone(), from).unwrap();
    selected.owned().map(Result::unwrap).collect()
}

/// What is selected, and what is skipped to, is there in `all`.
fn agrees(reader: &Reader, all: &[OwnedEvent]) {
    let wanted = |keep: &dyn Fn(&OwnedEvent) -> bool, from: Option<u64>| -> Vec<OwnedEvent> {
        let kept = all.iter().filter(|event| keep(event));
        kept.filter(|event| event.position >= from.unwrap_or(0))
            .cloned()
            .collect()
    };
    let len = all.len() as u64;
    for from in [
        None,
        Some(0),
        Some(len / 3),
        Some(len - 40),
        Some(len),
        Some(len + 3),
    ] {
        for entity in [0, 3, ENTITIES - 1, ENTITIES].map(|n| EntityId(u128::from(n))) {
            let found = selected(reader, &Selection::Entity(entity), from);
            assert!(
                found == wanted(&|event| event.entity == entity, from),
                "{entity} from {from:?}"
            );
        }
        for tag in ["fiftieth", "other", "none"] {
            let found = selected(reader, &Selection::Tag(tag.into()), from);
            assert!(
                found == wanted(&|event| event.tags.iter().any(|other| other == tag), from),
                "{tag} from {from:?}"
            );
        }
    }
    for step in [1, 2, 31, 33, 100, 1000, len - 1] {
        for start in [0, 1, len / 2] {
            let mut replay = reader.replay(start).unwrap();
            let places = (start..len).step_by(step as usize);
            let found: Vec<_> = places
                .clone()
                .map(|place| {
                    replay.skip_to(place).unwrap();
                    // Back it does not go.
                    replay.skip_to(place / 2).unwrap();
                    assert_eq!(replay.position(), place);
                    replay.next_event().unwrap().unwrap().to_owned()
                })
                .collect();
            let wanted: Vec<_> = places.map(|place| all[place as usize].clone()).collect();
            assert!(found == wanted, "every {step} from {start}");
            replay.skip_to(len + 5).unwrap();
            assert!(replay.next_event().unwrap().is_none());
        }
    }
    for from in (0..len).step_by(97) {
        let mut replay = reader.replay(from).unwrap();
        assert_eq!(replay.next_event().unwrap().unwrap().position, from);
    }
}

#[test]
fn a_few_events_are_those_that_reading_everything_gives_however_the_journal_grows() {
    for segment in [1 << 20, 64 << 10] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path(), segment);
        let mut events = 0;
        for more in [60, 1, 33, 400, 2000, 2000] {
            append(&journal, events, events + more);
            events += more;
            let all = all(&journal.reader());
            assert_eq!(all.len() as u64, events);
            agrees(&journal.reader(), &all);
            if more == 400 {
                // The next knows nothing yet.
                journal.close().unwrap();
                journal = open(dir.path(), segment);
            }
        }
        let all = all(&journal.reader());
        // Another process's, with a writer and without.
        agrees(&Reader::open(dir.path()).unwrap(), &all);
        journal.close().unwrap();
        agrees(&Reader::open(dir.path()).unwrap(), &all);
    }
}

#[test]
fn selections_see_all_that_was_durable_when_they_began_while_others_append() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), 64 << 10);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for entity in 0..2 {
            let (journal, ended) = (&journal, &ended);
            scope.spawn(move || {
                let selection = Selection::Entity(EntityId(entity));
                let mut last = 0;
                while !ended.load(Ordering::Relaxed) {
                    let durable = journal.sequence(EntityId(entity)).unwrap();
                    let durable = durable.min(journal.durable_position() / ENTITIES);
                    let mut found = journal.reader().select(selection.clone(), None).unwrap();
                    let mut sequence = 0;
                    while let Some(event) = found.next_event().unwrap() {
                        sequence += 1;
                        assert_eq!((event.sequence, event.entity), (sequence, EntityId(entity)));
                    }
                    assert!(sequence >= durable.max(last), "{sequence} of {durable}");
                    last = sequence;
                    // And the rest, as it comes.
                    found.refresh().unwrap();
                    while let Some(event) = found.next_event().unwrap() {
                        sequence += 1;
                        assert_eq!((event.sequence, event.entity), (sequence, EntityId(entity)));
                    }
                }
                assert!(last > 100);
            });
        }
        append(&journal, 0, 6000);
        ended.store(true, Ordering::Relaxed);
    });
    agrees(&journal.reader(), &all(&journal.reader()));
}

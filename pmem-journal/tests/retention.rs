//! Retention, compaction and the cold directory through the public face: what goes, what is held and why, on a full disk
//! too, and what damage does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmem_journal::{
    Compaction, EntityId, Error, Event, Expected, Held, Journal, Mode, Options, Projection, Reader,
    Retention, Snapshot,
};

mod small_disk;

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

#[test]
fn cold_segments_are_read_compacted_and_dropped_where_they_lie() {
    let (dir, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cold = cold.path().join("colder");
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 200);
    let total = segment_bytes(dir.path());
    let moved = journal.cool(&cold, 3 * SEGMENT).unwrap();
    assert!(moved.segments > 3);
    assert_eq!(
        (segment_bytes(dir.path()), segment_bytes(&cold)),
        (3 * SEGMENT, moved.bytes)
    );
    assert_eq!(segment_bytes(dir.path()) + moved.bytes, total);
    assert_eq!(journal.cool(&cold, 3 * SEGMENT).unwrap().segments, 0);
    all_there(&journal, 200);
    for _ in 0..2 {
        for entity in 1..=3 {
            save(&journal, entity);
        }
        append(&journal, 1);
    }
    drop(journal);
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    let compacted = journal.compact(&Compaction::new()).unwrap();
    assert!(compacted.segments > 0);
    assert!(segment_bytes(&cold) < moved.bytes, "shorter where it lies");
    all_there(&journal, 202);
    let went = journal.retain(&everything()).unwrap();
    assert!(went.segments >= moved.segments, "{went:?}");
    assert_eq!(segment_bytes(&cold), 0);
    all_there(&journal, 202);

    let own = journal.cool(dir.path(), 0);
    assert!(matches!(own, Err(Error::ColdDirectory { .. })), "{own:?}");
    let other = tempfile::tempdir().unwrap();
    let (others, _) = Journal::open_with(other.path(), &options()).unwrap();
    append(&others, 200);
    others.cool(&cold, 0).unwrap();
    append(&journal, 200);
    let taken = cold.join(format!("{:016x}.seg", 0));
    let own_first = Reader::open(dir.path()).unwrap().sealed_segments().unwrap()[0].index;
    fs::rename(taken, cold.join(format!("{own_first:016x}.seg"))).ok();
    let refused = journal.cool(&cold, 0);
    assert!(
        matches!(refused, Err(Error::ColdDirectory { .. }) | Ok(_)),
        "{refused:?}"
    );
    all_there(&journal, 402);
}

#[test]
fn a_cold_directory_that_vanishes_is_an_error_and_nothing_is_lost_when_it_is_back() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cold = away.path().join("cold");
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    append(&journal, 200);
    journal.cool(&cold, 2 * SEGMENT).unwrap();
    fs::rename(&cold, away.path().join("unplugged")).unwrap();
    let gone = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    };
    let reader = Reader::open(dir.path()).unwrap();
    gone(reader.verify().map(drop));
    gone(
        reader
            .replay(0)
            .and_then(|mut replay| replay.next_event().map(drop)),
    );
    gone(journal.retain(&everything().without_snapshots()).map(drop));
    gone(journal.compact(&Compaction::new().newest_only()).map(drop));
    // What is hot goes on.
    append(&journal, 1);
    fs::rename(away.path().join("unplugged"), &cold).unwrap();
    all_there(&journal, 201);
    assert_eq!(reader.verify().unwrap().events, 603);
}

#[test]
fn on_a_full_disk_there_is_room_to_save_to_compact_and_to_drop() {
    let dir = tempfile::tempdir().unwrap();
    small_disk::run(dir.path(), "400k", "child_makes_room_on_a_full_disk");
}

/// Other people's bytes, until there is no room for one more.
fn fill_to_the_brim(ballast: &Path) {
    use std::io::Write as _;
    let mut size = 1 << 20;
    while size >= 512 {
        let file = fs::File::options().append(true).create(true).open(ballast);
        if file.and_then(|mut file| file.write_all(&vec![1; size])).is_err() {
            size /= 2;
        }
    }
    assert!(fs::write(ballast.with_extension("more"), vec![1; 4096]).is_err());
}

#[test]
#[ignore = "the child's half of the full disk test, which starts it itself"]
fn child_makes_room_on_a_full_disk() {
    let Ok(disk) = std::env::var("DIR").map(PathBuf::from) else {
        return;
    };
    let (dir, ballast) = (disk.join("journal"), disk.join("ballast"));
    let reserve = 32 << 10;
    let (journal, _) = Journal::open_with(&dir, &options().reserve(reserve)).unwrap();
    assert_eq!(journal.reserved(), reserve);
    append(&journal, 40);
    let full = loop {
        let at = journal.sequence(EntityId(9)).unwrap();
        match journal.append(&[Event::new(9, 1, &[0; 2000])], Expected::Exact(at)) {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
    // Each snapshot is written over the reserve, which takes back what that leaves of it.
    let sequence = journal.sequence(EntityId(9)).unwrap();
    let position = journal.durable_position() - 1;
    for n in (0..6).rev() {
        let started = Instant::now();
        // Once more where an index that the journal's own thread gave up for want of room has left some.
        loop {
            fill_to_the_brim(&ballast);
            let snapshot = Snapshot::new(9, sequence - n, position, vec![n as u8; 500]);
            journal.save_snapshots(&[snapshot], 2).unwrap();
            assert_eq!(
                journal.snapshot(EntityId(9)).unwrap().snapshot.unwrap().sequence,
                sequence - n
            );
            if journal.reserved() < reserve {
                break;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "it is not written over the reserve"
            );
        }
    }
    let large = Snapshot::new(9, sequence, position, vec![1; 64 << 10]);
    let refused = journal.save_snapshots(&[large], 2);
    assert!(matches!(refused, Err(Error::NoRoom { .. })), "{refused:?}");
    let newest = journal.snapshot(EntityId(9)).unwrap();
    assert_eq!(
        (newest.snapshot.unwrap().payload.len(), newest.refused.len()),
        (500, 0)
    );

    let went = journal
        .retain(&Retention::new().without_snapshots().larger_than(150 << 10))
        .unwrap();
    assert!(went.segments > 0, "{went:?}");
    assert_eq!(journal.reserved(), reserve, "the reserve is whole again");
    fill_to_the_brim(&ballast);
    let compacted = journal.compact(&Compaction::new().newest_only()).unwrap();
    assert!(compacted.segments > 0, "{compacted:?}");
    fs::remove_file(&ballast).unwrap();
    append(&journal, 10);
    drop(journal);
    let (journal, _) = Journal::open_with(&dir, &options()).unwrap();
    assert_eq!(journal.sequence(EntityId(1)).unwrap(), 50);
    assert!(Reader::open(&dir).unwrap().verify().is_ok());
}

#[test]
fn while_indexes_are_made_the_reserve_of_a_full_disk_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    small_disk::run(dir.path(), "2m", "child_saves_while_indexes_are_made");
}

/// Saves in a reserve that just suffices, again and again, while a thread has indexes made, which take any room that they
/// find and keep it.
#[test]
#[ignore = "the child's half of the test of a full disk, which starts it itself"]
fn child_saves_while_indexes_are_made() {
    let Ok(disk) = std::env::var("DIR").map(PathBuf::from) else {
        return;
    };
    let (dir, ballast) = (disk.join("journal"), disk.join("ballast"));
    let (journal, _) = Journal::open_with(&dir, &options().reserve(128 << 10)).unwrap();
    // More segments than indexes are kept open, each filled by an entity of its own.
    let entities = 40u128;
    for entity in 1..=entities {
        for _ in 0..5 {
            journal
                .append(&[Event::new(entity, 1, &[0; 2000])], Expected::Any)
                .unwrap();
        }
    }
    let position = journal.durable_position() - 1;
    let saved = |n: u64| [Snapshot::new(9, 1 + n % 5, position, [0; 22_000])];
    let indexes: Vec<PathBuf> = (0..entities as u64 - 1)
        .map(|segment| dir.join(format!("{segment:016x}.idx")))
        .collect();
    // Whatever else takes room has it before the disk is filled.
    let spare_is_made = || fs::metadata(dir.join("spare.new")).is_ok_and(|spare| spare.len() == SEGMENT);
    let started = Instant::now();
    while !spare_is_made() || !indexes.iter().all(|index| index.exists()) {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no spare or no indexes are made"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    // All have to be made again whenever somebody looks into them, as long as there is no room to keep them.
    for index in &indexes {
        fs::remove_file(index).unwrap();
    }
    fill_to_the_brim(&ballast);
    // From here on each snapshot is written over the reserve, and takes the place of one as large.
    for n in 0..2 {
        journal.save_snapshots(&saved(n), 2).unwrap();
        fill_to_the_brim(&ballast);
    }
    let reserved = journal.reserved();
    let (done, ended) = std::sync::mpsc::channel();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for entity in 1..=entities {
                    // Under the journal's lock, as an append would.
                    journal.sequence(EntityId(entity)).unwrap();
                }
            }
        });
        scope.spawn(|| {
            let failed = (0..2000).find_map(|n| journal.save_snapshots(&saved(n), 2).err());
            stop.store(true, Ordering::Relaxed);
            done.send(failed).unwrap();
        });
        match ended.recv_timeout(Duration::from_secs(120)) {
            Ok(failed) => assert!(failed.is_none(), "{failed:?}"),
            Err(_) => {
                eprintln!("the threads wait for each other");
                std::process::abort();
            }
        }
    });
    assert_eq!(journal.reserved(), reserved);
}

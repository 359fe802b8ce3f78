//! On a disk that is really full: the reserve is for what makes room.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmem_journal::{Compaction, EntityId, Error, Event, Expected, Journal, Reader, Retention, Snapshot};

use crate::{SEGMENT, append, options};

#[path = "../small_disk/mod.rs"]
mod small_disk;

#[test]
fn on_a_full_disk_there_is_room_to_save_to_compact_and_to_drop() {
    let dir = tempfile::tempdir().unwrap();
    small_disk::run(dir.path(), "400k", "full_disk::child_makes_room_on_a_full_disk");
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
    small_disk::run(dir.path(), "2m", "full_disk::child_saves_while_indexes_are_made");
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

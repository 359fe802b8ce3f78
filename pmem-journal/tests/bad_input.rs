//! Whatever is in the directory and whatever the disk does: a typed error that says what to do, and nothing lost.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pmem_journal::{Error, Event, Expected, Journal, MAX_PAYLOAD, Mode, Options, Reader};

mod small_disk;

const SEGMENT: u64 = 16 << 10;

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(SEGMENT)
}

/// A journal of `events` events of 100 bytes; closed in good order, or left as a kill leaves it.
fn journal_of(dir: &Path, events: u64, closed: bool) {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..events {
        journal
            .append(&[Event::new(1, 1, &[n as u8; 100])], Expected::Exact(n))
            .unwrap();
    }
    if closed {
        journal.close().unwrap();
    } else {
        // The lock goes with a copy of the directory, which is what a dead writer leaves.
        let copy = dir.with_extension("copy");
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        drop(journal);
        fs::remove_dir_all(dir).unwrap();
        fs::rename(copy, dir).unwrap();
    }
}

fn segment(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index:016x}.seg"))
}

fn corruption<T>(result: Result<T, Error>) -> (String, u64, String) {
    match result.map(drop) {
        Err(Error::Corruption {
            segment,
            offset,
            cause,
        }) => (segment, offset, cause),
        other => panic!("corruption was expected, and the answer was {other:?}"),
    }
}

#[test]
fn garbage_in_place_of_a_segment_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for garbage in [
        vec![],
        vec![0; 100],
        vec![0; 16 << 10],
        vec![0xff; 16 << 10],
        b"PMJSEGMT".repeat(2048),
    ] {
        fs::write(segment(dir.path(), 0), &garbage).unwrap();
        let refused = Journal::open_with(dir.path(), &options()).map(drop);
        assert!(
            matches!(
                refused,
                Err(Error::Corruption { .. } | Error::UnknownVersion { .. })
            ),
            "{refused:?}"
        );
        assert!(Reader::open(dir.path()).unwrap().replay(0).is_err());
        assert_eq!(fs::read(segment(dir.path(), 0)).unwrap(), garbage);
    }
}

#[test]
fn other_peoples_files_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(dir.path().join("spare.new"), "left by a crash").unwrap();
    fs::write(dir.path().join("published"), "x").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let (journal, recovery) = Journal::open_with(dir.path(), &options()).unwrap();
    assert_eq!(recovery.events, 0);
    journal.append(&[Event::new(1, 1, b"a")], Expected::None).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_segment_cut_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    journal_of(dir.path(), 10, true);
    for len in [SEGMENT - 1, SEGMENT / 2, 4096, 100, 1] {
        fs::File::options()
            .write(true)
            .open(segment(dir.path(), 0))
            .unwrap()
            .set_len(len)
            .unwrap();
        let (name, offset, cause) = corruption(Journal::open_with(dir.path(), &options()));
        assert_eq!((name.as_str(), offset), ("0000000000000000.seg", 0), "{cause}");
    }
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    journal_of(dir.path(), 300, true);
    fs::remove_file(segment(dir.path(), 1)).unwrap();
    let (name, _, cause) = corruption(Journal::open_with(dir.path(), &options()));
    assert_eq!(
        (name.as_str(), cause.as_str()),
        ("0000000000000001.seg", "the segment is missing")
    );
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (a, b) = (parent.path().join("a"), parent.path().join("b"));
    journal_of(&a, 300, true);
    journal_of(&b, 300, true);
    fs::copy(segment(&b, 1), segment(&a, 1)).unwrap();
    // Opening looks at the ends alone; whoever reads it finds it, and so does verifying.
    let reader = Reader::open(&a).unwrap();
    let read = reader.replay(0).unwrap().owned().collect::<Result<Vec<_>, _>>();
    for found in [read.map(drop), reader.verify().map(drop)] {
        let (name, offset, _) = corruption(found);
        assert_eq!((name.as_str(), offset), ("0000000000000001.seg", 0));
    }
    let last = reader.sealed_segments().unwrap().len() as u64;
    fs::copy(segment(&b, last), segment(&a, last)).unwrap();
    let (name, offset, _) = corruption(Journal::open_with(&a, &options()));
    assert_eq!((name, offset), (format!("{last:016x}.seg"), 0));
}

/// Flips one byte at a time, all through the records, and says what opening made of each.
fn flips(closed: bool) -> Vec<(u64, Result<u64, Error>)> {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    journal_of(&dir, 10, closed);
    let pristine = fs::read(segment(&dir, 0)).unwrap();
    let end = 4096 + 10 * 176;
    (4096..end)
        .step_by(7)
        .map(|offset| {
            let file = fs::File::options().write(true).open(segment(&dir, 0)).unwrap();
            file.write_all_at(&[pristine[offset] ^ 0x5a], offset as u64)
                .unwrap();
            let opened = Journal::open_with(&dir, &options()).map(|(_, recovery)| recovery.events);
            fs::write(segment(&dir, 0), &pristine).unwrap();
            (offset as u64, opened)
        })
        .collect()
}

#[test]
fn after_a_good_close_no_damaged_byte_goes_unnoticed() {
    for (offset, opened) in flips(true) {
        // Padding (12 bytes behind each record of 164) belongs to no record.
        if (offset - 4096) % 176 < 164 {
            corruption(opened);
        } else {
            assert_eq!(opened.unwrap(), 10);
        }
    }
}

#[test]
fn after_a_kill_damage_below_the_last_commit_is_corruption_and_in_it_a_torn_tail() {
    for (offset, opened) in flips(false) {
        let (record, within) = ((offset - 4096) / 176, (offset - 4096) % 176);
        match (record, within) {
            (_, 164..) => assert_eq!(opened.unwrap(), 10),
            (9, _) => assert_eq!(opened.unwrap(), 9, "byte {offset}"),
            _ => drop(corruption(opened)),
        }
    }
}

#[test]
fn a_second_writer_is_told_who_holds_the_lock_and_readers_are_not_bothered() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    journal.append(&[Event::new(1, 1, b"a")], Expected::None).unwrap();
    match Journal::open_with(dir.path(), &options()).map(drop) {
        Err(Error::Locked { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        Reader::open(dir.path())
            .unwrap()
            .replay(0)
            .unwrap()
            .owned()
            .count(),
        1
    );
    journal
        .append(&[Event::new(1, 1, b"b")], Expected::Exact(1))
        .unwrap();
}

#[test]
fn records_over_the_limits_are_refused_with_the_limit_and_the_journal_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    let huge = vec![0; MAX_PAYLOAD + 1];
    let long = "t".repeat(256);
    let refused = [
        journal.append(&[Event::new(1, 1, &huge)], Expected::Any),
        journal.append(&[Event::new(1, 1, &huge[..SEGMENT as usize])], Expected::Any),
        journal.append(&[Event::new(1, 1, b"").tags(&[&long])], Expected::Any),
        journal.append(
            &[Event::new(1, 1, b"").tags(&["0123456789"; 6000])],
            Expected::Any,
        ),
        journal.append(&[], Expected::Any),
        journal.append(
            &[Event::new(1, 1, b""), Event::new(2, 1, b"")],
            Expected::Exact(0),
        ),
        journal.append(&[Event::new(1, 1, b"")], Expected::Exact(7)),
    ];
    let [
        Err(Error::EventTooLarge { .. }),
        Err(Error::BatchTooLarge { .. }),
        Err(Error::TagsTooLarge { .. }),
        Err(Error::TagsTooLarge { .. }),
        Err(Error::EmptyBatch),
        Err(Error::MixedEntities),
        Err(Error::WrongSequence {
            expected: 7,
            actual: 0,
            ..
        }),
    ] = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(
        journal
            .append(&[Event::new(1, 1, b"")], Expected::None)
            .unwrap()
            .first_position,
        0
    );
}

#[test]
fn a_mode_that_the_directory_cannot_give_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    if pmem_journal::probe(dir.path()).unwrap().mode != Mode::Buffered {
        return;
    }
    match Journal::open_with(dir.path(), &Options::new().require(Mode::Pmem)).map(drop) {
        Err(Error::ModeUnavailable {
            required: Mode::Pmem,
            available: Mode::Buffered,
            reason,
            ..
        }) => {
            assert!(
                reason.contains("MAP_SYNC") && reason.contains("-o dax"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing_and_passes_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    small_disk::run(dir.path(), "400k", "child_fills_the_disk");
}

#[test]
#[ignore = "the child's half of the full disk test, which starts it itself"]
fn child_fills_the_disk() {
    let Ok(dir) = std::env::var("DIR").map(PathBuf::from) else {
        return;
    };
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; 264 << 10]).unwrap();
    let journal_dir = dir.join("journal");
    for mode in [Mode::Buffered, Mode::Volatile] {
        let (journal, before) = Journal::open_with(&journal_dir, &options().require(mode)).unwrap();
        let mut last = before.next_position;
        // Again and again, for the threads that make segments and indexes ahead give room back when they have failed.
        let mut refused = 0;
        while refused < 3 {
            match journal.append(&[Event::new(1, 1, &[7; 1000])], Expected::Any) {
                Ok(done) => (last, refused) = (done.first_position + 1, 0),
                Err(Error::NoSpace {
                    segment_size: SEGMENT,
                    ..
                }) => refused += 1,
                Err(other) => panic!("{mode}: {other:?}"),
            }
        }
        assert_eq!(
            Reader::open(&journal_dir)
                .unwrap()
                .replay(0)
                .unwrap()
                .owned()
                .count() as u64,
            last
        );
        if mode == Mode::Buffered {
            // Room for the indexes as well that have waited for it.
            fs::write(&ballast, vec![1; 32 << 10]).unwrap();
            assert_eq!(
                journal
                    .append(&[Event::new(1, 1, &[7; 1000])], Expected::Any)
                    .unwrap()
                    .first_position,
                last
            );
            last += 1;
        }
        drop(journal);
        let report = Reader::open(&journal_dir).unwrap().verify().unwrap();
        assert_eq!(report.next_position, last);
    }
}

#[test]
fn a_read_only_file_system_refuses_writers_and_serves_readers() {
    let dir = tempfile::tempdir().unwrap();
    small_disk::run(dir.path(), "1m", "child_makes_it_read_only");
}

#[test]
#[ignore = "the child's half of the read-only test, which starts it itself"]
fn child_makes_it_read_only() {
    let Ok(dir) = std::env::var("DIR").map(PathBuf::from) else {
        return;
    };
    journal_of(&dir.join("journal"), 10, true);
    let remounted = Command::new("mount")
        // The mount, not its file system, whose other options an ordinary user could not repeat.
        .args(["-o", "remount,bind,ro"])
        .arg(&dir)
        .status()
        .unwrap();
    assert!(remounted.success());
    match Journal::open_with(dir.join("journal"), &options()).map(drop) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        Reader::open(dir.join("journal"))
            .unwrap()
            .replay(0)
            .unwrap()
            .owned()
            .count(),
        10
    );
}

#[test]
fn a_directory_that_vanishes_is_an_error_and_nothing_acknowledged_is_lost_when_it_is_back() {
    for mode in [Mode::Buffered, Mode::Volatile] {
        let home = tempfile::tempdir().unwrap();
        let (dir, away) = (home.path().join("journal"), home.path().join("away"));
        let options = Options::new().require(mode).segment_size(8 << 10);
        let (journal, _) = Journal::open_with(&dir, &options).unwrap();
        let append = |n: u64| journal.append(&[Event::new(1, 1, &[n as u8; 500])], Expected::Exact(n));
        for n in 0..20 {
            append(n).unwrap();
        }
        fs::rename(&dir, &away).unwrap();
        // The segment that is open can still be written, wherever its directory is; the next cannot be made.
        let mut acknowledged = 20;
        let refused = loop {
            match append(acknowledged) {
                Ok(_) => acknowledged += 1,
                Err(e) => break e,
            }
            assert!(
                acknowledged < 40,
                "{mode}: segments are made where there is no directory"
            );
        };
        assert!(
            matches!(refused, Error::Io { .. } | Error::Poisoned { .. }),
            "{mode}: {refused:?}"
        );
        assert!(append(acknowledged).is_err(), "{mode}");
        drop(journal);
        fs::rename(&away, &dir).unwrap();
        let (journal, recovery) = Journal::open_with(&dir, &options).unwrap();
        assert_eq!(recovery.events, acknowledged, "{mode}");
        journal
            .append(&[Event::new(1, 1, b"on")], Expected::Exact(acknowledged))
            .unwrap();
    }
}

#[test]
fn a_later_version_a_codec_and_an_unknown_flag_are_refused_as_such_and_left_alone() {
    for (field, value) in [(8, 2), (10, 2), (12, 1)] {
        let dir = tempfile::tempdir().unwrap();
        journal_of(dir.path(), 10, true);
        let path = segment(dir.path(), 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[field] = value;
        let checksum = crc32c::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        for refused in [
            Journal::open_with(dir.path(), &options()).map(drop),
            Reader::open(dir.path())
                .and_then(|reader| reader.verify())
                .map(drop),
            pmem_journal::repair(dir.path(), true).map(drop),
            pmem_journal::truncate(dir.path(), 1, true).map(drop),
        ] {
            let as_such = match refused {
                Err(Error::UnknownVersion { found: 2, .. }) => field == 8,
                Err(Error::UnknownFeature { flags: 2, .. }) => field == 10,
                Err(Error::UnknownFeature { codec: 1, .. }) => field == 12,
                _ => false,
            };
            assert!(as_such, "{field}: {refused:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

//! A journal with everything that stands on top of the log, as an earlier build wrote it: snapshots, a cursor with its
//! result, compacted segments, a floor above compacted ones. It must load for ever.
//!
//! `JOURNAL_WRITE_FIXTURE=1 cargo test -p pmem-journal --test kept` makes it, where it is missing.

use std::fs;
use std::path::{Path, PathBuf};

use pmem_journal::{
    Compaction, EntityId, Event, Expected, Journal, Mode, Options, Projection, Reader, Retention, Snapshot,
};

const FIXTURE: &str = "v1-kept";

fn options() -> Options {
    Options::new()
        .require(Mode::Buffered)
        .segment_size(16 << 10)
        .reserve(0)
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(FIXTURE)
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 300]
}

fn write(dir: &Path) {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    let append = |entity: u128, events: u64| {
        for _ in 0..events {
            let at = journal.sequence(EntityId(entity)).unwrap();
            let payload = payload(at + 1);
            journal
                .append(&[Event::new(entity, 1, &payload)], Expected::Exact(at))
                .unwrap();
        }
    };
    let save = |entity: u128| {
        let at = journal.sequence(EntityId(entity)).unwrap();
        let snapshot = Snapshot::new(entity, at, journal.durable_position() - 1, payload(at));
        journal.save_snapshots(&[snapshot.schema(9)], 2).unwrap();
    };
    append(1, 30);
    append(2, 10);
    save(1);
    append(1, 40);
    save(1);
    append(2, 40);
    let compacted = journal.compact(&Compaction::new().covered_by(1)).unwrap();
    assert!(compacted.segments > 0);
    save(2);
    let dropped = journal.retain(&Retention::new().below(45).covered_by(1)).unwrap();
    assert!(dropped.segments > 0);
    let mut projection = Projection::open(&Reader::open(dir).unwrap(), "sum").unwrap();
    projection.reset(100, b"the result so far").unwrap();
    drop(projection);
    journal.close().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_stands_on_top_of_the_log_in_version_1_loads_and_goes_on() {
    if std::env::var_os("JOURNAL_WRITE_FIXTURE").is_some() && !fixture().exists() {
        write(&fixture());
        for name in ["LOCK", "published", "projections/sum.lock"] {
            fs::remove_file(fixture().join(name)).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let reader = Reader::open(dir.path()).unwrap();
    let report = reader.verify().unwrap();
    assert_eq!((report.next_position, report.clean), (120, true));
    assert!(report.first_position > 0);
    assert!(
        reader
            .sealed_segments()
            .unwrap()
            .iter()
            .any(|segment| segment.compacted)
    );
    let mut snapshots = 0;
    reader
        .for_each_snapshot(|listed| {
            let snapshot = listed.found.unwrap();
            assert_eq!(
                (snapshot.schema_version, snapshot.payload),
                (9, payload(snapshot.sequence))
            );
            snapshots += 1;
        })
        .unwrap();
    assert_eq!(snapshots, 3);
    for (entity, sequence, from) in [(1u128, 70, 70), (2, 50, 50)] {
        let history = reader.history(EntityId(entity)).unwrap();
        assert_eq!(history.snapshot().unwrap().sequence, from);
        assert_eq!(history.map(Result::unwrap).count() as u64, sequence - from);
    }
    let projection = Projection::open(&reader, "sum").unwrap();
    assert_eq!(
        (projection.position(), projection.result()),
        (100, &b"the result so far"[..])
    );
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    for (entity, sequence) in [(1u128, 70), (2, 50)] {
        let event = Event::new(entity, 1, b"goes on");
        let done = journal.append(&[event], Expected::Exact(sequence)).unwrap();
        assert_eq!(done.sequence, sequence + 1);
    }
}

//! Journals that earlier builds wrote: they must load for ever, and give what they were given.
//!
//! A new format version gets a directory of its own here; the old ones are never written again.
//! `JOURNAL_WRITE_FIXTURE=1 cargo test -p pmem-journal --test fixtures -- --ignored writes` makes the one of the version in force.

use std::fs;
use std::path::{Path, PathBuf};

use pmem_journal::{EntityId, Error, Event, Expected, Journal, Mode, Options, Reader, Selection};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn copy_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(8192)
}

/// Everything the format can say: several segments, dropped ones, an epoch in the middle, keys, tags, correlation.
const EVENTS: u64 = 96;

fn payload(n: u64) -> Vec<u8> {
    (0..n * 3).map(|at| (at * 7 + n) as u8).collect()
}

fn write(dir: &Path) {
    let (mut journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..EVENTS / 2 {
        if n == EVENTS / 4 {
            journal.close().unwrap();
            journal = Journal::open_with(dir, &options()).unwrap().0;
        }
        let payloads = [payload(2 * n), payload(2 * n + 1)];
        let first = Event::new(u128::from(n % 3) << 100 | 7, 1, &payloads[0]).key(u128::from(n) + 1);
        let second = Event::new(8, 2, &payloads[1])
            .schema(3)
            .tags(&["even", "ü"])
            .correlation(1 << 90);
        journal.append(&[first, second], Expected::Any).unwrap();
    }
    assert!(journal.drop_segments_below(EVENTS / 2).unwrap() > 0);
    journal.close().unwrap();
}

#[test]
#[ignore = "writes the fixture of the version in force; for a new version alone"]
fn writes_version_1() {
    // Whoever runs every ignored test does not mean this one.
    if std::env::var_os("JOURNAL_WRITE_FIXTURE").is_none() {
        return;
    }
    let dir = fixture("v1");
    assert!(!dir.exists(), "a fixture is never written again");
    write(&dir);
    for name in ["LOCK", "published"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
}

#[test]
fn version_1_loads_and_goes_on() {
    let dir = copy_of("v1");
    let reader = Reader::open(dir.path()).unwrap();
    let report = reader.verify().unwrap();
    assert_eq!((report.next_position, report.clean), (EVENTS, true));
    let first = report.first_position;
    assert!(first > 0 && report.segments > 2);
    let mut events = reader.replay(first).unwrap();
    for position in first..EVENTS {
        let event = events.next_event().unwrap().unwrap();
        let n = position / 2;
        assert_eq!(
            (event.position, event.payload),
            (position, &payload(position)[..])
        );
        assert_eq!(event.batch_end, position % 2 == 1);
        if position % 2 == 0 {
            assert_eq!(
                (event.entity.0, event.sequence),
                (u128::from(n % 3) << 100 | 7, n / 3 + 1)
            );
            assert_eq!(
                (event.idempotency_key, event.kind, event.schema_version),
                (u128::from(n) + 1, 1, 1)
            );
            assert_eq!((event.tags().count(), event.correlation()), (0, None));
        } else {
            assert_eq!((event.entity.0, event.sequence), (8, n + 1));
            assert_eq!(
                (event.idempotency_key, event.kind, event.schema_version),
                (0, 2, 3)
            );
            assert_eq!(event.tags().collect::<Vec<_>>(), ["even", "ü"]);
            assert_eq!(event.correlation(), Some(1 << 90));
        }
    }
    assert!(events.next_event().unwrap().is_none());
    assert!(matches!(reader.replay(0).map(drop), Err(Error::BelowFirst { first: f, .. }) if f == first));
    let even = reader.select(Selection::Tag("ü".into()), None).unwrap();
    assert_eq!(even.owned().count() as u64, (EVENTS - first) / 2);

    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    assert_eq!(journal.sequence(EntityId(8)).unwrap(), EVENTS / 2);
    let payload = payload(EVENTS - 2);
    let entity = u128::from((EVENTS / 2 - 1) % 3) << 100 | 7;
    let again = journal
        .append(
            &[Event::new(entity, 1, &payload).key(u128::from(EVENTS / 2))],
            Expected::Any,
        )
        .unwrap();
    assert!(again.duplicate && again.first_position == EVENTS - 2);
    assert_eq!(
        journal
            .append(&[Event::new(8, 1, b"on")], Expected::Any)
            .unwrap()
            .first_position,
        EVENTS
    );
}

#[test]
fn the_index_of_version_1_is_what_this_build_makes() {
    let dir = copy_of("v1");
    let names = || -> Vec<PathBuf> {
        let paths = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "idx"))
            .collect()
    };
    let before: Vec<(PathBuf, Vec<u8>)> = names()
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(before.len() > 1);
    before.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    assert_eq!(journal.sequence(EntityId(99)).unwrap(), 0);
    drop(journal);
    for (path, bytes) in before {
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{} differs: the format changed",
            path.display()
        );
    }
}

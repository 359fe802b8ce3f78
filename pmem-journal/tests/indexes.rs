//! Indexes are derived: whatever becomes of their files, the journal knows the same.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pmem_journal::{EntityId, Error, Event, Expected, Journal, Mode, Options, Reader, Selection};

const EVENTS: u64 = 600;

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(16 << 10)
}

/// Events in batches of two: an entity of its own and a shared one; every third batch with tags.
fn filled(dir: &Path) {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..EVENTS / 2 {
        let payload = n.to_le_bytes();
        let tags: &[&str] = if n % 3 == 0 { &["third", "3"] } else { &[] };
        let own = Event::new(u128::from(1000 + n), 1, &payload)
            .key(u128::from(n) + 1)
            .tags(tags);
        let shared = Event::new(u128::from(n % 5), 1, &payload);
        journal.append(&[own, shared], Expected::Any).unwrap();
    }
    journal.close().unwrap();
}

fn indexes(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "idx"))
        .collect();
    found.sort();
    found
}

/// The journal answers as if it had everything in memory.
fn knows_everything(dir: &Path) {
    let (journal, recovery) = Journal::open_with(dir, &options()).unwrap();
    assert_eq!(recovery.events, EVENTS);
    for n in (0..EVENTS / 2).step_by(7) {
        let payload = n.to_le_bytes();
        let again = journal
            .append(
                &[Event::new(u128::from(1000 + n), 1, &payload).key(u128::from(n) + 1)],
                Expected::None,
            )
            .unwrap();
        assert!(again.duplicate);
        assert_eq!(
            (again.first_position, again.last_position),
            (2 * n, 2 * n + 1),
            "key {n}"
        );
        assert_eq!(journal.sequence(EntityId(u128::from(1000 + n))).unwrap(), 1);
        let fresh = journal.append(&[Event::new(u128::from(1000 + n), 1, b"")], Expected::None);
        assert!(matches!(fresh, Err(Error::WrongSequence { actual: 1, .. })));
    }
    for entity in 0..5u128 {
        assert_eq!(journal.sequence(EntityId(entity)).unwrap(), EVENTS / 10);
    }
    assert_eq!(journal.sequence(EntityId(77)).unwrap(), 0);
    for reader in [journal.reader(), Reader::open(dir).unwrap()] {
        reads_by_entity_and_tag(&reader);
    }
    journal.close().unwrap();
    reads_by_entity_and_tag(&Reader::open(dir).unwrap());
}

fn reads_by_entity_and_tag(reader: &Reader) {
    let positions = |selection: Selection, from| -> Vec<u64> {
        let selected = reader.select(selection, from).unwrap();
        selected.owned().map(|event| event.unwrap().position).collect()
    };
    let of_shared: Vec<u64> = (0..EVENTS / 2)
        .filter(|n| n % 5 == 3)
        .map(|n| 2 * n + 1)
        .collect();
    assert_eq!(positions(Selection::Entity(EntityId(3)), None), of_shared);
    for from in [0, 1, 100, 101, 399, EVENTS - 1, EVENTS, EVENTS + 5] {
        let later: Vec<u64> = of_shared.iter().copied().filter(|at| *at >= from).collect();
        assert_eq!(
            positions(Selection::Entity(EntityId(3)), Some(from)),
            later,
            "from {from}"
        );
        assert_eq!(
            positions(Selection::All, Some(from)),
            (from..EVENTS).collect::<Vec<_>>()
        );
    }
    assert_eq!(positions(Selection::Entity(EntityId(1042)), None), [84]);
    assert_eq!(positions(Selection::Entity(EntityId(5)), None), [0; 0]);
    let third: Vec<u64> = (0..EVENTS / 2).filter(|n| n % 3 == 0).map(|n| 2 * n).collect();
    assert_eq!(positions(Selection::Tag("third".to_owned()), None), third);
    assert_eq!(positions(Selection::Tag("fourth".to_owned()), None), [0; 0]);
}

#[test]
fn every_sealed_segment_gets_an_index_and_lookups_use_them() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    knows_everything(dir.path());
    let sealed = Reader::open(dir.path()).unwrap().sealed_segments().unwrap();
    assert!(sealed.len() > 2);
    assert_eq!(indexes(dir.path()).len(), sealed.len());
}

#[test]
fn deleted_indexes_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    for entity in 0..1000 {
        journal.sequence(EntityId(entity)).unwrap();
    }
    drop(journal);
    let before: Vec<_> = indexes(dir.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    for path in indexes(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    reads_by_entity_and_tag(&Reader::open(dir.path()).unwrap());
    assert_eq!(indexes(dir.path()).len(), 0, "a reader writes nothing");
    knows_everything(dir.path());
    let after: Vec<_> = indexes(dir.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn a_damaged_index_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    knows_everything(dir.path());
    let path = indexes(dir.path())[1].clone();
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(911) {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[good[at] ^ 0x11], at as u64).unwrap();
        drop(file);
        knows_everything(dir.path());
        fs::write(&path, &good).unwrap();
    }
    for len in [0, 1, 4095, 4096, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        knows_everything(dir.path());
    }
    // Another segment's index, and one of another journal.
    fs::copy(&indexes(dir.path())[2], &path).unwrap();
    knows_everything(dir.path());
    let other = tempfile::tempdir().unwrap();
    filled(other.path());
    knows_everything(other.path());
    fs::copy(&indexes(other.path())[1], &path).unwrap();
    knows_everything(dir.path());
}

#[test]
fn opening_reads_the_last_segment_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    // Damage in an old segment is none of an open's business: reading it finds it.
    let old = dir.path().join("0000000000000001.seg");
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .write_all_at(&[0xff; 8], 5000)
        .unwrap();
    let (journal, recovery) = Journal::open_with(dir.path(), &options()).unwrap();
    assert_eq!(recovery.events, EVENTS);
    let read: Result<Vec<_>, _> = journal.replay(0).unwrap().owned().collect();
    assert!(matches!(read, Err(Error::Corruption { segment, .. }) if segment == "0000000000000001.seg"));
}

#[test]
fn opening_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().require(Mode::Buffered).segment_size(16 << 20);
    let (journal, _) = Journal::open_with(dir.path(), &options).unwrap();
    for _ in 0..10 {
        journal
            .append(&[Event::new(1, 1, &[7; 1 << 20])], Expected::Any)
            .unwrap();
    }
    journal.close().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let options = options.progress(move |progress| tell.lock().unwrap().push(progress));
    let (_journal, recovery) = Journal::open_with(dir.path(), &options).unwrap();
    assert_eq!(recovery.events, 10);
    let told = told.lock().unwrap();
    assert!(told.len() >= 2, "{told:?}");
    assert!(told.is_sorted_by(|a, b| a.done < b.done), "{told:?}");
    assert!(
        told.iter().all(|at| at.segment == 0 && at.done <= at.of),
        "{told:?}"
    );
}

//! A journal whose oldest segments are gone: dropped on purpose it goes on as if they were there; lost, it refuses.

use std::fs;
use std::path::Path;

use pmem_journal::{Error, Event, Expected, Journal, Mode, Options, Reader};

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(16 << 10)
}

/// 300 events of three entities in turn, over several segments.
fn journal_in(dir: &Path) -> Journal {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..300u64 {
        let payload = [n as u8; 100];
        let event = Event::new(u128::from(n % 3), 1, &payload).key(u128::from(n) + 1);
        journal.append(&[event], Expected::Exact(n / 3)).unwrap();
    }
    journal
}

fn files(dir: &Path, ending: &str) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_str().unwrap().ends_with(ending))
        .count()
}

#[test]
fn sealed_segments_are_listed_with_their_ranges_and_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path());
    let sealed = Reader::open(dir.path()).unwrap().sealed_segments().unwrap();
    assert!(sealed.len() > 3);
    assert_eq!(sealed[0].first_position, 0);
    for pair in sealed.windows(2) {
        assert_eq!(pair[0].next_position, pair[1].first_position);
        assert!(pair[0].newest <= pair[1].newest && pair[0].index + 1 == pair[1].index);
    }
    assert!(
        sealed
            .iter()
            .all(|segment| segment.path.is_file() && !segment.compacted)
    );
    assert!(sealed.last().unwrap().next_position < 300);
    drop(journal);
}

#[test]
fn dropped_events_are_refused_by_position_and_everything_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_in(dir.path());
    let reader = Reader::open(dir.path()).unwrap();
    let mut slow = reader.replay(0).unwrap();
    assert_eq!(slow.next_event().unwrap().unwrap().position, 0);

    assert_eq!(journal.drop_segments_below(0).unwrap(), 0);
    let mut first = 0;
    for round in 0..3u64 {
        let second = reader.sealed_segments().unwrap()[1].clone();
        assert_eq!(journal.drop_segments_below(second.next_position - 1).unwrap(), 1);
        first = reader.first_position().unwrap();
        assert_eq!(first, second.first_position);
        for below in [0, first - 1] {
            let refused = reader.replay(below).map(drop);
            assert!(
                matches!(refused, Err(Error::BelowFirst { asked, first: f }) if asked == below && f == first),
                "{refused:?}"
            );
        }
        let end = 300 + 3 * round;
        let kept: Vec<_> = journal
            .replay_kept()
            .unwrap()
            .owned()
            .map(|event| event.unwrap().position)
            .collect();
        assert_eq!(kept, (first..end).collect::<Vec<_>>());
        // Sequences go on, also of an entity whose events are all gone, and after an open.
        drop(journal);
        assert_eq!(reader.verify().unwrap().first_position, first);
        journal = Journal::open_with(dir.path(), &options()).unwrap().0;
        for entity in 0..3u128 {
            let event = Event::new(entity, 1, &[1; 100]);
            assert_eq!(journal.sequence(entity.into()).unwrap(), 100 + round);
            journal.append(&[event], Expected::Exact(100 + round)).unwrap();
        }
        assert_eq!(files(dir.path(), ".floor"), 1, "older floors go");
    }
    // The slow reader holds the first segment open, and is told when it comes to the second.
    let told = loop {
        match slow.next_event() {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert!(
        matches!(told, Err(Error::BelowFirst { first: f, .. }) if f == first),
        "{told:?}"
    );
}

#[test]
fn an_entity_whose_events_are_all_gone_keeps_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    journal
        .append(&[Event::new(77, 1, b"only")], Expected::None)
        .unwrap();
    for n in 0..200 {
        journal
            .append(&[Event::new(1, 1, &[0; 100])], Expected::Exact(n))
            .unwrap();
    }
    assert!(journal.drop_segments_below(100).unwrap() > 0);
    drop(journal);
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    let again = journal.append(&[Event::new(77, 1, b"again")], Expected::None);
    assert!(
        matches!(again, Err(Error::WrongSequence { actual: 1, .. })),
        "{again:?}"
    );
    assert_eq!(
        journal
            .append(&[Event::new(77, 1, b"again")], Expected::Exact(1))
            .unwrap()
            .sequence,
        2
    );
}

#[test]
fn leftovers_of_a_drop_are_removed_and_losses_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_in(dir.path());
    let segment = |n: u64| dir.path().join(format!("{n:016x}.seg"));
    let oldest = fs::read(segment(0)).unwrap();
    journal.drop_segments_below(150).unwrap();
    drop(journal);
    let reader = Reader::open(dir.path()).unwrap();
    let first = reader.sealed_segments().unwrap()[0].index;

    // A segment that the drop had no time to remove, and a table it did not finish.
    fs::write(segment(0), &oldest).unwrap();
    fs::write(dir.path().join("00000000000000ff.floor.new"), "half").unwrap();
    assert!(reader.verify().unwrap().first_position > 0);
    drop(Journal::open_with(dir.path(), &options()).unwrap());
    assert!(!segment(0).exists());
    assert_eq!(files(dir.path(), ".new"), 0);

    // The first segment kept is lost, then the floor is, then it is damaged.
    let corrupt = |what: &str| {
        for refused in [
            Journal::open_with(dir.path(), &options()).map(drop),
            reader.verify().map(drop),
        ] {
            assert!(
                matches!(refused, Err(Error::Corruption { .. })),
                "{what}: {refused:?}"
            );
        }
    };
    let aside = dir.path().join("aside");
    fs::rename(segment(first), &aside).unwrap();
    corrupt("the first segment is lost");
    fs::rename(&aside, segment(first)).unwrap();
    let floor = dir.path().join(format!("{first:016x}.floor"));
    fs::rename(&floor, &aside).unwrap();
    corrupt("the floor is lost");
    let good = fs::read(&aside).unwrap();
    let mut bytes = good.clone();
    bytes[3] ^= 1;
    fs::write(&floor, &bytes).unwrap();
    corrupt("the floor is damaged");
    // Opening does not read its rows; whoever needs one does.
    bytes = good;
    bytes[4096 + 3] ^= 1;
    fs::write(&floor, &bytes).unwrap();
    assert!(matches!(reader.verify(), Err(Error::Corruption { .. })));
    let (journal, _) = Journal::open_with(dir.path(), &options()).unwrap();
    assert!(matches!(
        journal.sequence(77.into()),
        Err(Error::Corruption { .. })
    ));
    let append = journal.append(&[Event::new(77, 1, b"")], Expected::Any);
    assert!(matches!(append, Err(Error::Corruption { .. })), "{append:?}");
    drop(journal);
    fs::rename(&aside, &floor).unwrap();
    assert!(reader.verify().is_ok());
}

#[test]
fn a_sealed_segment_may_lie_in_another_directory_behind_a_link() {
    let (dir, cold) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = journal_in(dir.path());
    let reader = Reader::open(dir.path()).unwrap();
    for segment in reader.sealed_segments().unwrap() {
        let there = cold.path().join(segment.path.file_name().unwrap());
        fs::copy(&segment.path, &there).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&there, &link).unwrap();
        fs::rename(&link, &segment.path).unwrap();
    }
    assert_eq!(reader.replay(0).unwrap().owned().map(Result::unwrap).count(), 300);
    drop(journal);
    let (journal, recovery) = Journal::open_with(dir.path(), &options()).unwrap();
    assert_eq!(recovery.events, 300);
    let before = files(cold.path(), ".seg");
    let dropped = journal.drop_segments_below(100).unwrap();
    assert!(dropped > 0);
    assert_eq!(
        files(cold.path(), ".seg") as u64,
        before as u64 - dropped,
        "the segment goes, not its link alone"
    );
}

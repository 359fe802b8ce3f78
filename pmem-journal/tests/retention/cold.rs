//! Segments in the cold directory.

use std::fs;

use pmem_journal::{Compaction, Error, Journal, Reader};

use crate::{SEGMENT, all_there, append, everything, options, save, segment_bytes};

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

//! Following live, beside the writer and in another process: everything once, in order, never past what is durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pmem_journal::{EntityId, Event, Expected, Followed, Journal, Mode, Options, Reader, Selection};

const EVENTS: u64 = 2_000;

fn options(mode: Mode) -> Options {
    Options::new().require(mode).segment_size(64 << 10)
}

/// Positions followed until `last` came, and how many had been caught up with.
fn follow(
    reader: &Reader,
    selection: Selection,
    last: u64,
    acknowledged: Option<&AtomicU64>,
) -> (Vec<u64>, Option<usize>) {
    let mut follower = reader.follow(selection, None).unwrap();
    let mut positions = Vec::new();
    let mut caught_up = None;
    loop {
        match follower.next(Duration::from_secs(20)).unwrap() {
            Followed::Event(event) => {
                let position = event.position;
                assert_eq!(event.payload, position.to_le_bytes());
                positions.push(position);
                if let Some(acknowledged) = acknowledged {
                    // The batch is durable; its append may be about to return.
                    assert!(position <= acknowledged.load(Ordering::SeqCst) + 8);
                }
                if position == last {
                    return (positions, caught_up);
                }
            }
            Followed::CaughtUp => {
                assert_eq!(caught_up, None, "said once");
                caught_up = Some(positions.len());
            }
            Followed::TimedOut => panic!("nothing came in 20 s after {:?}", positions.last()),
        }
    }
}

fn append(journal: &Journal, n: u64) {
    let payload = n.to_le_bytes();
    let tags: &[&str] = if n % 10 == 9 { &["tenth"] } else { &[] };
    let event = Event::new(u128::from(n % 4), 1, &payload).tags(tags);
    assert_eq!(journal.append(&[event], Expected::Any).unwrap().first_position, n);
}

fn writer_and_followers(mode: Mode) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options(mode)).unwrap();
    let before = 700;
    (0..before).for_each(|n| append(&journal, n));
    let acknowledged = AtomicU64::new(before);
    std::thread::scope(|scope| {
        let (journal, acknowledged) = (&journal, &acknowledged);
        for reader in [journal.reader(), Reader::open(dir.path()).unwrap()] {
            let all = reader.clone();
            scope.spawn(move || {
                let (positions, caught_up) = follow(&all, Selection::All, EVENTS - 1, Some(acknowledged));
                assert_eq!(positions, (0..EVENTS).collect::<Vec<_>>());
                assert!(
                    caught_up.is_none_or(|there| there >= before as usize),
                    "{caught_up:?}"
                );
            });
            let one = reader.clone();
            scope.spawn(move || {
                let (positions, _) = follow(&one, Selection::Entity(EntityId(3)), EVENTS - 1, None);
                assert_eq!(positions, (0..EVENTS).filter(|n| n % 4 == 3).collect::<Vec<_>>());
            });
            scope.spawn(move || {
                let (positions, _) = follow(&reader, Selection::Tag("tenth".into()), EVENTS - 1, None);
                assert_eq!(positions, (0..EVENTS).filter(|n| n % 10 == 9).collect::<Vec<_>>());
            });
        }
        for n in before..EVENTS {
            acknowledged.store(n, Ordering::SeqCst);
            append(journal, n);
        }
    });
}

#[test]
fn followers_of_a_file_see_everything_once_and_in_order() {
    writer_and_followers(Mode::Buffered);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn followers_of_a_mapping_see_everything_once_and_in_order() {
    writer_and_followers(Mode::Volatile);
}

#[test]
fn a_follower_outlives_its_writers_and_finds_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Buffered)).unwrap();
    append(&journal, 0);
    let reader = Reader::open(dir.path()).unwrap();
    let mut follower = reader.follow(Selection::All, None).unwrap();
    let mut next = |most| match follower.next(Duration::from_millis(most)).unwrap() {
        Followed::Event(event) => format!("event {}", event.position),
        other => format!("{other:?}"),
    };
    assert_eq!(next(0), "event 0");
    assert_eq!(next(0), "CaughtUp");
    assert_eq!(next(20), "TimedOut");
    for n in 1..4 {
        append(&journal, n);
    }
    journal.close().unwrap();
    assert_eq!(
        [next(20_000), next(20_000), next(20_000)],
        ["event 1", "event 2", "event 3"]
    );
    assert_eq!(next(20), "TimedOut");
    let (journal, _) = Journal::open_with(dir.path(), &options(Mode::Volatile)).unwrap();
    append(&journal, 4);
    assert_eq!(next(20_000), "event 4");
}

//! Projections whose process is killed again and again: what each way of storing the cursor promises, and what stands
//! in its way.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pmem_journal::{Error, Event, Expected, Journal, Mode, Options, Projection, Reader};

fn options() -> Options {
    Options::new().require(Mode::Volatile).segment_size(64 << 10)
}

fn journal_of(dir: &Path, events: u64) -> Journal {
    let (journal, _) = Journal::open_with(dir, &options()).unwrap();
    for n in 0..events {
        journal
            .append(&[Event::new(1, 1, &n.to_le_bytes())], Expected::Exact(n))
            .unwrap();
    }
    journal
}

/// A result that tells how often each event was handled: their number, and a sum that depends on the order.
fn fold(result: &mut Vec<u8>, position: u64) {
    let mut words = [0u64; 2];
    for (word, bytes) in words.iter_mut().zip(result.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap());
    }
    words[0] += 1;
    words[1] = words[1].wrapping_mul(31).wrapping_add(position);
    *result = words.iter().flat_map(|word| word.to_le_bytes()).collect();
}

#[test]
#[ignore = "the child's half of the kill tests, which start it themselves"]
fn child_projects_until_it_is_killed() {
    let Ok(dir) = std::env::var("PROJECTION_DIR") else {
        return;
    };
    let way = std::env::var("PROJECTION_WAY").unwrap();
    let mut projection = Projection::open(&Reader::open(&dir).unwrap(), &way).unwrap();
    let effects = Path::new(&dir).join(format!("{way}.effects"));
    let mut effects = File::options().append(true).create(true).open(effects).unwrap();
    let mut effect = |position: u64| {
        // An effect in the world takes its time, and is there once it is done.
        std::thread::sleep(Duration::from_micros(100));
        effects.write_all(&position.to_le_bytes()).unwrap();
    };
    match way.as_str() {
        "most" => projection.at_most_once(3, |event| {
            effect(event.position);
            Ok(())
        }),
        "least" => projection.at_least_once(3, |event| {
            effect(event.position);
            Ok(())
        }),
        _ => projection.effectively_once(3, |result, event| {
            std::thread::sleep(Duration::from_micros(100));
            fold(result, event.position);
            Ok(())
        }),
    }
    .unwrap();
}

/// Runs the child and kills it at random times until it has come to the end by itself; how often it was killed.
fn killed_until_done(dir: &Path, way: &str, mut dice: u64) -> u32 {
    let mut kills = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_projects_until_it_is_killed", "--ignored"])
            .env("PROJECTION_DIR", dir)
            .env("PROJECTION_WAY", way)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        // Longer and longer, so that it gets there on any machine.
        std::thread::sleep(Duration::from_millis(10 + dice % 60 + u64::from(kills) * 10));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return kills;
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            return kills;
        }
        kills += 1;
    }
}

fn effects(dir: &Path, way: &str) -> Vec<u64> {
    let bytes = fs::read(dir.join(format!("{way}.effects"))).unwrap();
    bytes
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn killed_at_any_time_each_event_is_handled_as_often_as_was_promised() {
    const EVENTS: u64 = 1_500;
    let dir = tempfile::tempdir().unwrap();
    drop(journal_of(dir.path(), EVENTS));
    let kills = ["most", "least", "once"].map(|way| killed_until_done(dir.path(), way, 0x9e37_79b9));
    println!("killed {kills:?} times");
    assert!(
        kills.iter().all(|kills| *kills > 0),
        "the test saw nothing: {kills:?}"
    );

    let most = effects(dir.path(), "most");
    assert!(
        most.windows(2).all(|pair| pair[0] < pair[1]),
        "an event was handled twice"
    );
    assert!(
        most.len() as u64 + 3 * u64::from(kills[0]) >= EVENTS,
        "more were lost than kills explain"
    );

    let least = effects(dir.path(), "least");
    let mut next = 0;
    for position in &least {
        assert!(
            *position <= next && *position + 3 >= next,
            "{position} where {next} follows"
        );
        next = next.max(position + 1);
    }
    assert_eq!(next, EVENTS, "an event was never handled");
    assert!(least.len() as u64 <= EVENTS + 3 * u64::from(kills[1]));

    let once = Projection::open(&Reader::open(dir.path()).unwrap(), "once").unwrap();
    let mut expected = Vec::new();
    (0..EVENTS).for_each(|position| fold(&mut expected, position));
    assert_eq!((once.position(), once.result()), (EVENTS, &expected[..]));
}

#[test]
fn a_handler_that_fails_is_named_with_its_event_and_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_of(dir.path(), 10);
    let reader = Reader::open(dir.path()).unwrap();
    let seen = |event: u64, broken: bool| {
        if event == 5 && broken {
            Err("no".into())
        } else {
            Ok(())
        }
    };

    let mut least = Projection::open(&reader, "least").unwrap();
    let failed = least.at_least_once(4, |event| seen(event.position, true));
    assert!(
        matches!(failed, Err(Error::Handler { position: 5, .. })),
        "{failed:?}"
    );
    assert_eq!(least.position(), 5);
    let mut again = Vec::new();
    let handled = least.at_least_once(4, |event| {
        again.push(event.position);
        seen(event.position, false)
    });
    assert_eq!((handled.unwrap(), again), (5, (5..10).collect::<Vec<_>>()));

    let mut most = Projection::open(&reader, "most").unwrap();
    assert!(most.at_most_once(1, |event| seen(event.position, true)).is_err());
    assert_eq!(most.position(), 6, "it is not tried again");

    let mut once = Projection::open(&reader, "once").unwrap();
    let failed = once.effectively_once(4, |result, event| {
        result.push(event.position as u8);
        seen(event.position, true)
    });
    assert!(failed.is_err());
    assert_eq!((once.position(), once.result()), (4, &[0, 1, 2, 3][..]));
    once.effectively_once(4, |result, event| {
        result.push(event.position as u8);
        Ok(())
    })
    .unwrap();
    assert_eq!(once.result(), (0..10).collect::<Vec<u8>>());
    // What comes later is seen by the same projection.
    journal.append(&[Event::new(2, 1, b"")], Expected::Any).unwrap();
    assert_eq!(once.effectively_once(4, |_, _| Ok(())).unwrap(), 1);
}

#[test]
fn a_second_runner_a_bad_cursor_and_a_lost_beginning_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_of(dir.path(), 3_000);
    let reader = Reader::open(dir.path()).unwrap();
    let mut first = Projection::open(&reader, "words").unwrap();
    let busy = Projection::open(&reader, "words").map(drop);
    assert!(matches!(busy, Err(Error::ProjectionBusy { .. })), "{busy:?}");
    for name in ["", "Words", "../words", "a b"] {
        let refused = Projection::open(&reader, name).map(drop);
        assert!(
            matches!(refused, Err(Error::BadProjectionName { .. })),
            "{refused:?}"
        );
    }
    first
        .at_least_once(1000, |event| {
            if event.position == 10 {
                Err("wait".into())
            } else {
                Ok(())
            }
        })
        .unwrap_err();
    drop(first);
    assert!(journal.drop_segments_below(1_500).unwrap() > 0);
    let mut behind = Projection::open(&reader, "words").unwrap();
    let lost = behind.at_least_once(1, |_| Ok(()));
    assert!(
        matches!(lost, Err(Error::BelowFirst { asked: 10, .. })),
        "{lost:?}"
    );
    behind.reset(reader.first_position().unwrap(), b"").unwrap();
    assert!(behind.at_least_once(1000, |_| Ok(())).unwrap() > 0);
    drop(behind);

    let file = dir.path().join("projections/words.cursor");
    let mut bytes = fs::read(&file).unwrap();
    bytes[33] ^= 1;
    fs::write(&file, bytes).unwrap();
    let bad = Projection::open(&reader, "words").map(drop);
    assert!(matches!(bad, Err(Error::BadCursor { .. })), "{bad:?}");

    // A cursor of a journal that has since been restored from an older copy.
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = journal_of(new.path(), 5);
    for name in ["0000000000000000.seg", "published"] {
        fs::copy(new.path().join(name), old.path().join(name)).unwrap();
    }
    journal
        .append(&[Event::new(1, 1, b"sixth")], Expected::Any)
        .unwrap();
    Projection::open(&Reader::open(new.path()).unwrap(), "p")
        .unwrap()
        .at_least_once(9, |_| Ok(()))
        .unwrap();
    fs::create_dir(old.path().join("projections")).unwrap();
    fs::copy(
        new.path().join("projections/p.cursor"),
        old.path().join("projections/p.cursor"),
    )
    .unwrap();
    let ahead = Projection::open(&Reader::open(old.path()).unwrap(), "p").map(drop);
    assert!(matches!(ahead, Err(Error::BadCursor { .. })), "{ahead:?}");
}

//! A writer killed with SIGKILL at random times, again and again, on one journal: every acknowledged event is there
//! exactly once, at the position that was acknowledged, and nothing is there that was never sent.
//!
//! `JOURNAL_KILL_ROUNDS` sets the number of rounds (default 25). `PMEM_DIR` names a directory on a DAX mount.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pmem_journal::{EntityId, Event, Expected, Journal, Mode, Options, Reader};

const THREADS: usize = 3;

fn options(mode: Mode) -> Options {
    // Small segments, so that kills fall into rotations too.
    Options::new().require(mode).segment_size(64 << 10)
}

#[test]
#[ignore = "the child's half of the kill tests, which start it themselves"]
fn child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var("JOURNAL_KILL_DIR") else {
        return;
    };
    let mode: Mode = std::env::var("JOURNAL_KILL_MODE").unwrap().parse().unwrap();
    let round = std::env::var("JOURNAL_KILL_ROUND").unwrap();
    let (journal, _) = Journal::open_with(dir, &options(mode)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, round) = (&journal, &round);
            scope.spawn(move || {
                for n in 0.. {
                    let sent: Vec<String> = (0..1 + n % 3)
                        .map(|part| format!("{round}:{thread}:{n}:{part}"))
                        .collect();
                    let entity = EntityId(thread as u128);
                    let batch: Vec<_> = sent
                        .iter()
                        .map(|text| Event::new(entity, 1, text.as_bytes()))
                        .collect();
                    let done = journal.append(&batch, Expected::Any).unwrap();
                    let mut out = std::io::stdout().lock();
                    for (position, text) in (done.first_position..).zip(&sent) {
                        writeln!(out, "acknowledged {position} {text}").unwrap();
                    }
                }
            });
        }
    });
}

fn kill_and_look(dir: &Path, mode: Mode) {
    let rounds: u64 = std::env::var("JOURNAL_KILL_ROUNDS")
        .ok()
        .map_or(25, |n| n.parse().unwrap());
    let mut acknowledged: HashMap<u64, String> = HashMap::new();
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_appends_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("JOURNAL_KILL_DIR", dir)
            .env("JOURNAL_KILL_MODE", mode.name())
            .env("JOURNAL_KILL_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (first, heard) = std::sync::mpsc::channel();
        let listener = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            let words = |line: String| -> Option<(u64, String)> {
                let (position, text) = line.split_once("acknowledged ")?.1.split_once(' ')?;
                Some((position.parse().ok()?, text.to_owned()))
            };
            let heard = |_: &(u64, String)| {
                let _ = first.send(());
            };
            lines.filter_map(words).inspect(heard).collect::<Vec<_>>()
        });
        // One kill in four may fall into the child's start and recovery; a slow machine must get beyond them in the rest.
        if round % 4 != 3 {
            let _ = heard.recv_timeout(Duration::from_secs(20));
        }
        std::thread::sleep(Duration::from_micros(5_000 + dice % 120_000));
        child.kill().unwrap();
        assert!(
            !child.wait().unwrap().success(),
            "round {round}: the child ended before it was killed"
        );
        for (position, text) in listener.join().unwrap() {
            // The pipe may end in the middle of a line; such a line was cut, not sent.
            if text.matches(':').count() == 3 {
                let before = acknowledged.insert(position, text);
                assert_eq!(
                    before, None,
                    "round {round}: position {position} was acknowledged twice"
                );
            }
        }
        check(dir, &acknowledged, round);
    }
    assert!(
        acknowledged.len() > rounds as usize,
        "{} acknowledged: the test saw nothing",
        acknowledged.len()
    );
    // And by the writer's own eyes.
    let (_, recovery) = Journal::open_with(dir, &options(mode)).unwrap();
    assert!(recovery.events >= acknowledged.len() as u64);
    println!(
        "{rounds} kills, {} acknowledged, {} in the journal",
        acknowledged.len(),
        recovery.events
    );
}

fn check(dir: &Path, acknowledged: &HashMap<u64, String>, round: u64) {
    let Ok(reader) = Reader::open(dir) else {
        assert!(acknowledged.is_empty(), "round {round}: the journal is gone");
        return;
    };
    let mut replay = reader.replay(0).unwrap();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut sequences: HashMap<EntityId, u64> = HashMap::new();
    let mut next = 0;
    let mut whole = true;
    while let Some(event) = replay.next_event().unwrap() {
        assert_eq!(event.position, next, "round {round}: a gap");
        next += 1;
        let sequence = sequences.entry(event.entity).or_default();
        *sequence += 1;
        assert_eq!(
            event.sequence, *sequence,
            "round {round}: a gap in entity {}",
            event.entity
        );
        let text = String::from_utf8(event.payload.to_vec()).unwrap();
        if let Some(sent) = acknowledged.get(&event.position) {
            // The last line before a kill may have lost its end.
            assert!(
                text.starts_with(sent),
                "round {round}: position {} holds {text}, not {sent}",
                event.position
            );
        }
        let before = seen.insert(text.clone(), event.position);
        assert_eq!(before, None, "round {round}: {text} is there twice");
        whole = event.batch_end;
    }
    assert!(whole, "round {round}: half a batch");
    for position in acknowledged.keys() {
        assert!(
            *position < next,
            "round {round}: acknowledged {position} is lost, the journal ends at {next}"
        );
    }
}

#[test]
fn every_acknowledged_event_survives_kills_on_an_ordinary_file() {
    let dir = tempfile::tempdir().unwrap();
    kill_and_look(&dir.path().join("journal"), Mode::Buffered);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_acknowledged_event_survives_kills_on_a_plain_mapping() {
    let dir = tempfile::tempdir().unwrap();
    kill_and_look(&dir.path().join("journal"), Mode::Volatile);
}

#[test]
#[ignore = "needs PMEM_DIR on a mount with -o dax; run with --ignored where there is one"]
fn every_acknowledged_event_survives_kills_on_persistent_memory() {
    let required = std::env::var("JOURNAL_REQUIRE_PMEM").is_ok_and(|v| v == "1");
    let Ok(parent) = std::env::var("PMEM_DIR") else {
        assert!(!required, "JOURNAL_REQUIRE_PMEM=1, and PMEM_DIR is not set");
        println!("PMEM_DIR is not set: nothing to test");
        return;
    };
    let dir = tempfile::tempdir_in(parent).unwrap();
    let found = pmem_journal::probe(dir.path()).unwrap();
    if !matches!(found.mode, Mode::Pmem | Mode::Eadr) {
        assert!(
            !required,
            "JOURNAL_REQUIRE_PMEM=1, and PMEM_DIR gives {}: {}",
            found.mode, found.reason
        );
        println!("PMEM_DIR gives {}: {}", found.mode, found.reason);
        return;
    }
    kill_and_look(&dir.path().join("journal"), Mode::Pmem);
}

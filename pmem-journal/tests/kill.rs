//! A writer and a live reader of it killed with SIGKILL at random times, again and again, on one journal: every event that was
//! acknowledged, or that the reader was shown, is there exactly once, at its position, and nothing is there that was never sent.
//!
//! `JOURNAL_KILL_ROUNDS` sets the number of rounds (default 25; after 25 a new journal is begun, for each round reads all that
//! its journal holds). `PMEM_DIR` names a directory on a DAX mount.

mod acknowledged;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use acknowledged::{Acknowledged, append_until_killed, check};
use pmem_journal::{Error, Followed, Journal, Mode, Options, Reader, Selection};

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
    // A reader holds the lock for an instant to see whether there is a writer; a busy machine may stop it just then.
    let started = Instant::now();
    let journal = loop {
        match Journal::open_with(&dir, &options(mode)) {
            Err(Error::Locked { .. }) if started.elapsed() < Duration::from_secs(30) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => break other.unwrap().0,
        }
    };
    append_until_killed(&journal, &round);
}

#[test]
#[ignore = "the child's half of the kill tests, which start it themselves"]
fn child_follows_until_it_is_killed() {
    let Ok(dir) = std::env::var("JOURNAL_KILL_DIR") else {
        return;
    };
    // Until the writer's first commit there is nothing to open.
    let reader = loop {
        match Reader::open(&dir) {
            Ok(reader) => break reader,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let from = std::env::var("JOURNAL_KILL_FROM").unwrap().parse().unwrap();
    let mut follower = reader.follow(Selection::All, Some(from)).unwrap();
    loop {
        if let Followed::Event(event) = follower.next(Duration::from_secs(1)).unwrap() {
            let text = std::str::from_utf8(event.payload).unwrap();
            println!("acknowledged {} {text}", event.position);
        }
    }
}

/// Starts this test again as a process of its own.
fn child(test: &str, dir: &Path, mode: Mode, round: u64, from: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("JOURNAL_KILL_DIR", dir)
        .env("JOURNAL_KILL_MODE", mode.name())
        .env("JOURNAL_KILL_ROUND", round.to_string())
        .env("JOURNAL_KILL_FROM", from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a child says, and a sign that it has begun to.
struct Heard {
    first: Receiver<()>,
    lines: JoinHandle<Vec<(u64, String)>>,
}

fn listen(child: &mut Child) -> Heard {
    let out = child.stdout.take().unwrap();
    let (begun, first) = channel();
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        let sign = |_: &(u64, String)| {
            let _ = begun.send(());
        };
        lines
            .filter_map(|line| acknowledged::in_line(&line))
            .inspect(sign)
            .collect()
    });
    Heard { first, lines }
}

/// Kills of one journal.
const ROUNDS: u64 = 25;

fn kill_and_look(dir: &Path, mode: Mode) {
    let rounds: u64 = std::env::var("JOURNAL_KILL_ROUNDS")
        .ok()
        .map_or(ROUNDS, |n| n.parse().unwrap());
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    let (mut acknowledged, mut kept) = (0, 0);
    for first in (0..rounds).step_by(ROUNDS as usize) {
        let dir = dir.join(first.to_string());
        let found = kill_one_journal(&dir, mode, first..(first + ROUNDS).min(rounds), &mut dice);
        acknowledged += found.0;
        kept += found.1;
        std::fs::remove_dir_all(&dir).unwrap();
    }
    println!("{mode}: {rounds} kills, {acknowledged} events acknowledged, {kept} in the journals");
}

/// Events acknowledged, and events in the journal in the end.
fn kill_one_journal(dir: &Path, mode: Mode, rounds: std::ops::Range<u64>, dice: &mut u64) -> (u64, u64) {
    let mut acknowledged = Acknowledged::new();
    let mut followed = 0;
    let count = rounds.end - rounds.start;
    for round in rounds {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        let known = acknowledged.len();
        let mut writer = child("child_appends_until_it_is_killed", dir, mode, round, known);
        let mut reader = child("child_follows_until_it_is_killed", dir, mode, round, known);
        let (written, shown) = (listen(&mut writer), listen(&mut reader));
        // One kill in four may fall into the children's start and recovery; a slow machine must get beyond them in the rest.
        let late = round % 4 != 3
            && [&written, &shown].into_iter().any(|heard| {
                let begun = heard.first.recv_timeout(Duration::from_secs(60));
                begun == Err(RecvTimeoutError::Timeout)
            });
        std::thread::sleep(Duration::from_micros(5_000 + *dice % 120_000));
        // Reader and writer at once, the reader first in every other round.
        let both = if round % 2 == 0 {
            [&mut reader, &mut writer]
        } else {
            [&mut writer, &mut reader]
        };
        for process in both {
            process.kill().unwrap();
        }
        for process in [&mut reader, &mut writer] {
            let ended = process.wait().unwrap();
            assert_eq!(
                ended.signal(),
                Some(9),
                "round {round}: it ended before it was killed: {ended}"
            );
        }
        assert!(!late, "round {round}: nothing acknowledged or shown in time");
        acknowledged::add(&mut acknowledged, written.lines.join().unwrap(), round);
        // What a reader was shown is as safe as what was acknowledged.
        let shown = shown.lines.join().unwrap();
        followed += shown.len() as u64;
        let mut must_be_there = acknowledged.clone();
        must_be_there.extend(shown);
        check(dir, &must_be_there, round);
    }
    assert!(followed > count, "{followed} followed: the readers saw nothing");
    assert!(
        acknowledged.len() > count as usize,
        "{} acknowledged: the test saw nothing",
        acknowledged.len()
    );
    // And by the writer's own eyes.
    let (_, recovery) = Journal::open_with(dir, &options(mode)).unwrap();
    assert!(recovery.events >= acknowledged.len() as u64);
    (acknowledged.len() as u64, recovery.events)
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

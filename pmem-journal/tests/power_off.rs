//! A machine switched off hard in mid-append, again and again, with its journal on a DAX mount: every acknowledged event is
//! there when it is up again.
//!
//! The machine is a guest, and its persistent memory a file of the host that outlives it (`soft-roce-setup run
//! --pmem-image`). Switching off is SIGKILL: the guest's kernel, its page cache and its file system's unwritten metadata
//! are gone between two instructions; what had been stored into persistent memory stays. Caches of a CPU are not emulated:
//! what a missing flush would lose is for the simulated medium to show (`src/crash_tests.rs`).
//!
//! `SOFT_ROCE_SETUP` names the program, `JOURNAL_POWER_OFFS` sets how often (default 1).

mod acknowledged;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use acknowledged::{Acknowledged, append_until_killed, check, in_line};
use pmem_journal::{Journal, Mode, Options};

/// What each boot is told: the file of what was acknowledged before, or where there is none yet an empty one.
const TOLD: &str = "JOURNAL_POWER_OFF_ACKNOWLEDGED";
const ROUND: &str = "JOURNAL_POWER_OFF_ROUND";
const AUDITED: &str = "audited ";
/// For a boot and an audit under emulation, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
#[ignore = "the guest's half, which the test below starts"]
fn guest_audits_and_appends_until_it_is_switched_off() {
    let (Ok(told), Ok(round)) = (std::env::var(TOLD), std::env::var(ROUND)) else {
        return;
    };
    let dir = Path::new(&std::env::var("PMEM_DIR").unwrap()).join("journal");
    let before = std::fs::read_to_string(told).unwrap();
    let acknowledged: Acknowledged = before.lines().filter_map(in_line).collect();
    assert_eq!(before.lines().count(), acknowledged.len());
    let found = check(&dir, &acknowledged, round.parse().unwrap());
    let options = Options::new().require(Mode::Pmem).segment_size(256 << 10);
    let (journal, recovery) = Journal::open_with(dir, &options).unwrap();
    assert_eq!(recovery.events, found);
    println!("{AUDITED}{found}");
    append_until_killed(&journal, &round);
}

/// One boot: the audit of what is there, and then, until the machine is switched off, what is acknowledged.
fn boot(setup: &str, image: &Path, told: &Path, round: u64, run: Duration) -> (u64, Vec<(u64, String)>) {
    let mut guest = Command::new(setup)
        .args(["run", "--pmem", "256M", "--pmem-image"])
        .arg(image)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "guest_audits_and_appends_until_it_is_switched_off"])
        .args(["--ignored", "--nocapture"])
        .env(TOLD, told)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (say, heard) = channel();
    let out = BufReader::new(guest.stdout.take().unwrap());
    let listener = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = say.send(line);
        }
    });
    let started = Instant::now();
    let (mut audited, mut acknowledged) = (None, Vec::new());
    let mut off = None;
    // Until it runs, and then as long as it is to run.
    let ended = loop {
        let until = off.unwrap_or(started + PATIENCE);
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some((_, events)) = line.split_once(AUDITED) {
                    audited = events.parse::<u64>().ok();
                } else if let Some(found) = in_line(&line) {
                    acknowledged.push(found);
                    off.get_or_insert(Instant::now() + run);
                } else {
                    println!("guest: {line}");
                }
            }
            Err(RecvTimeoutError::Timeout) => break false,
            Err(RecvTimeoutError::Disconnected) => break true,
        }
        if off.is_some_and(|off| Instant::now() >= off) {
            break false;
        }
    };
    guest.kill().unwrap();
    guest.wait().unwrap();
    listener.join().unwrap();
    // What had left the machine before it was switched off.
    acknowledged.extend(heard.iter().filter_map(|line| in_line(&line)));
    assert!(
        !ended,
        "round {round}: the guest ended by itself; what it said stands above"
    );
    let audited = audited.unwrap_or_else(|| panic!("round {round}: no audit in {PATIENCE:?}"));
    (audited, acknowledged)
}

#[test]
#[ignore = "needs SOFT_ROCE_SETUP, the program that boots a guest"]
fn every_acknowledged_event_survives_the_machine_being_switched_off() {
    let Ok(setup) = std::env::var("SOFT_ROCE_SETUP") else {
        println!("SOFT_ROCE_SETUP is not set: nothing to test");
        return;
    };
    let offs = std::env::var("JOURNAL_POWER_OFFS").map_or(1, |n| n.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let (image, told) = (home.path().join("pmem"), home.path().join("acknowledged"));
    let mut acknowledged = Acknowledged::new();
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    // One boot more than there are switchings-off to audit.
    for round in 0..=offs {
        let mut text = String::new();
        for (position, sent) in &acknowledged {
            writeln!(text, "acknowledged {position} {sent}").unwrap();
        }
        std::fs::write(&told, text).unwrap();
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let run = Duration::from_millis(dice % 1_000);
        let (audited, more) = boot(&setup, &image, &told, round, run);
        println!(
            "boot {round}: {audited} events in the journal, {} of them acknowledged before; {} acknowledged in {run:?}",
            acknowledged.len(),
            more.len()
        );
        assert!(!more.is_empty());
        acknowledged::add(&mut acknowledged, more, round);
    }
    println!("{offs} times switched off, and each time nothing acknowledged was lost");
}

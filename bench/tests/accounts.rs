//! The accounts survive the death of their process: nothing acknowledged is lost, nothing is done twice.

mod program;

use std::path::Path;
use std::process::Stdio;

use program::{bench, command, value};
use serde_json::Value;

#[track_caller]
fn books_balance(transport: &str, more: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("ASCII");
    let arguments = [
        "accounts",
        "--transport",
        transport,
        "--dir",
        dir,
        "--json",
        "/dev/stdout",
    ];
    let output = bench(&[&arguments, more].concat());
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{more:?}: {err}");
    assert!(err.contains("the books balance"), "{err}");
    let figures: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let figure = |metric| value(&figures, "accounts", transport, 24, metric);
    assert!(figure("commands_per_second") > 0.0);
    assert!(figure("p50") > 0.0 && figure("p50") <= figure("p99") && figure("p99") <= figure("p99.9"));
    let left = std::fs::read_dir(folder.path()).expect("still there").count();
    assert_eq!(left, 0, "nothing stays behind");
}

#[test]
fn over_tcp_without_and_with_kills() {
    books_balance("tcp", &["--count", "2000"]);
    books_balance("tcp", &["--count", "3000", "--kill", "6"]);
}

#[test]
fn over_shm_without_and_with_kills() {
    books_balance("shm", &["--count", "2000"]);
    books_balance("shm", &["--count", "3000", "--kill", "6"]);
}

/// Answers get lost with the process while later commands to the same few accounts are durable already.
#[test]
fn with_few_accounts_and_many_commands_on_their_way() {
    let more = [
        "--count",
        "3000",
        "--kill",
        "8",
        "--accounts",
        "2",
        "--in-flight",
        "256",
    ];
    for wait in ["spin", "adaptive", "park"] {
        books_balance("shm", &[&more, &["--wait", wait][..]].concat());
        books_balance("tcp", &[&more, &["--wait", wait][..]].concat());
    }
}

#[test]
fn one_command_at_a_time() {
    books_balance("tcp", &["--count", "300", "--kill", "2", "--in-flight", "1"]);
}

/// A journal that vanishes under the accounts is the loss that the audit is there to find.
#[test]
fn a_lost_journal_fails_loudly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("ASCII");
    let mut running = command(&[
        "accounts",
        "--transport",
        "tcp",
        "--dir",
        dir,
        "--kill",
        "6",
        "--count",
        "20000",
    ])
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it starts");
    while running.try_wait().expect("it can be waited for").is_none() {
        remove_files_below(folder.path());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = running.wait_with_output().expect("it has ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("books") || said.contains("journal"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn remove_files_below(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_files_below(&entry.path());
        } else {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[test]
fn a_host_started_by_hand_does_not_hang() {
    let output = bench(&["accounts-host"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bench --help"));
}

//! The command as a user meets it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmem-journal"));
    command.arg(arguments[0]).arg(dir).args(&arguments[1..]);
    command
}

fn append(dir: &Path, arguments: &[&str], lines: &str) -> Output {
    let all: Vec<&str> = ["append"].iter().chain(arguments).copied().collect();
    let mut child = command(&all, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn lines_go_in_and_json_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = append(
        dir.path(),
        &["--entity", "account", "--tag", "eu"],
        "one\ntwo\nlast without newline",
    );
    assert_eq!(text(&out.stdout), "0\n1\n2\n");
    append(dir.path(), &["--entity", "other"], "three\n");
    let dump = command(&["dump", "--entity", "account", "--from", "1"], dir.path())
        .output()
        .unwrap();
    let events: Vec<serde_json::Value> = text(&dump.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[0]["payload"], &events[0]["sequence"]),
        (&"two".into(), &2.into())
    );
    assert_eq!(events[1]["tags"][0], "eu");
    let info = command(&["info"], dir.path()).output().unwrap();
    assert!(
        text(&info.stdout).contains("events     4 (0..4)"),
        "{}",
        text(&info.stdout)
    );
}

#[test]
fn verify_says_what_is_wrong_and_exits_with_3() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &["--segment-size", "8192"], "one\ntwo\n");
    let good = command(&["verify"], dir.path()).output().unwrap();
    assert!(good.status.success());
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&good.stdout).unwrap()["events"],
        2
    );
    let segment = dir.path().join("0000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let bad = command(&["verify"], dir.path()).output().unwrap();
    assert_eq!(bad.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((&report["ok"], &report["offset"]), (&false.into(), &4096.into()));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..3000)
        .map(|n| format!("a line that is long enough to fill a pipe soon {n}\n"))
        .collect();
    append(dir.path(), &["--mode", "volatile"], &lines);
    let mut child = command(&["dump"], dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()));
}

#[test]
fn tail_follows_a_writer_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), &[], "first\n");
    let mut tail = command(&["tail", "-f"], dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"first\""));
    append(dir.path(), &[], "second\n");
    assert!(lines.next().unwrap().unwrap().contains("\"second\""));
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn a_directory_without_a_journal_and_a_bad_flag_are_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let out = command(&["dump"], dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("holds no journal"),
        "{}",
        text(&out.stderr)
    );
    let out = command(&["append", "--mode", "quantum"], dir.path())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("no mode is called"),
        "{}",
        text(&out.stderr)
    );
}

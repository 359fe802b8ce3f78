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
fn tail_and_dump_pick_an_entity_or_a_tag_also_of_what_is_still_to_come() {
    let dir = tempfile::tempdir().unwrap();
    append(
        dir.path(),
        &["--entity", "a", "--tag", "red"],
        "one\ntwo\nthree\n",
    );
    append(dir.path(), &["--entity", "b", "--tag", "red"], "four\n");
    append(dir.path(), &["--entity", "b"], "five\n");
    let printed = |arguments: &[&str]| {
        let out = command(arguments, dir.path()).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let position =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["position"].clone();
        text(&out.stdout).lines().map(position).collect::<Vec<_>>()
    };
    assert_eq!(printed(&["dump", "--entity", "b"]), [3, 4]);
    assert_eq!(printed(&["dump", "--tag", "red", "--from", "1"]), [1, 2, 3]);
    assert_eq!(printed(&["dump", "--tag", "red", "--entity", "b"]), [3]);
    assert_eq!(printed(&["tail", "-n", "2", "--entity", "a"]), [1, 2]);
    assert_eq!(printed(&["tail", "-n", "2", "--tag", "red"]), [2, 3]);
    assert_eq!(printed(&["tail", "-n", "2"]), [3, 4]);
    assert_eq!(printed(&["tail", "-n", "0"]), [0; 0]);

    for (arguments, expected) in [
        (["tail", "-f", "-n", "1", "--entity", "a"], ["three", "seven"]),
        (["tail", "-f", "-n", "1", "--tag", "red"], ["four", "six"]),
    ] {
        let mut tail = command(&arguments, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains(expected[0]));
        append(dir.path(), &["--entity", "c", "--tag", "red"], "six\n");
        append(dir.path(), &["--entity", "a"], "seven\n");
        assert!(lines.next().unwrap().unwrap().contains(expected[1]));
        tail.kill().unwrap();
        tail.wait().unwrap();
        truncate_to(dir.path(), 5);
    }
}

fn truncate_to(dir: &Path, position: u64) {
    let out = command(&["truncate", "--to", &position.to_string(), "--apply"], dir)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
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

fn json_of(out: &Output) -> serde_json::Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stdout)))
}

fn import(dir: &Path, arguments: &[&str], lines: &[u8]) -> Output {
    let all: Vec<&str> = ["import"].iter().chain(arguments).copied().collect();
    let mut child = command(&all, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_exported_can_be_imported_whole_again_and_in_parts() {
    use pmem_journal::{Event, Expected, Journal, Reader};
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (journal, _) = Journal::open(dir.path()).unwrap();
    for n in 0..50u8 {
        let bytes = [n, 0xff, 0];
        let batch = [
            Event::new(7, 3, b"text \"quoted\"\n")
                .key(u128::from(n) + 1)
                .tags(&["a", "b"]),
            Event::new(8, 4, &bytes).schema(2).correlation(99),
        ];
        journal.append(&batch, Expected::Any).unwrap();
    }
    drop(journal);
    let exported = command(&["export"], dir.path()).output().unwrap().stdout;
    // A part, then all of it: what is there is passed over, and nothing without being asked.
    let half: Vec<u8> = exported
        .split_inclusive(|b| *b == b'\n')
        .take(60)
        .flatten()
        .copied()
        .collect();
    assert_eq!(json_of(&import(other.path(), &[], &half))["next_position"], 60);
    let twice = import(other.path(), &[], &half);
    assert_eq!(twice.status.code(), Some(1));
    assert!(
        text(&twice.stderr).contains("--resume"),
        "{}",
        text(&twice.stderr)
    );
    let rest = json_of(&import(other.path(), &["--resume"], &exported));
    assert_eq!(
        (&rest["next_position"], &rest["already_there"]),
        (&100.into(), &60.into())
    );
    let events = |dir: &Path| -> Vec<_> {
        let replay = Reader::open(dir).unwrap().replay(0).unwrap();
        replay
            .owned()
            .map(|event| pmem_journal::OwnedEvent {
                timestamp: 0,
                ..event.unwrap()
            })
            .collect()
    };
    assert_eq!(events(dir.path()), events(other.path()));
    let again = command(&["export"], other.path()).output().unwrap().stdout;
    assert_eq!(again.len(), exported.len());
    for (bad, why) in [
        (&b"{}\n"[..], "line 1"),
        (b"not json\n", "line 1"),
        (
            b"{\"entity\":\"e\",\"kind\":1,\"payload\":\"x\"}\n",
            "without its end",
        ),
        (
            b"{\"entity\":\"e\",\"kind\":1,\"payload_hex\":\"0\",\"batch_end\":true}\n",
            "hex",
        ),
        (b"\xff\n", "UTF-8"),
    ] {
        let out = import(other.path(), &[], bad);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(why), "{}", text(&out.stderr));
    }
    assert_eq!(events(other.path()).len(), 100);
}

#[test]
fn upkeep_says_what_it_would_do_and_does_it_when_told_to() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lines: String = (0..300)
        .map(|n| format!("line {n} {}\n", "x".repeat(60)))
        .collect();
    append(
        dir.path(),
        &["--segment-size", "16384", "--mode", "volatile"],
        &lines,
    );
    let run = |arguments: &[&str]| json_of(&command(arguments, dir.path()).output().unwrap());
    let held = run(&["retain", "--below", "300", "--apply"]);
    assert_eq!(
        (&held["segments"], &held["held"]["by"]),
        (&0.into(), &"snapshots".into())
    );
    let backup = away.path().join("backup");
    let copied = run(&["backup", backup.to_str().unwrap()]);
    assert_eq!(copied["next_position"], 300);
    let cold = away.path().join("cold");
    assert!(run(&["cool", cold.to_str().unwrap(), "--keep-hot", "40000"])["segments"].as_u64() > Some(0));
    let compact = ["compact", "--newest-only"];
    let planned = run(&compact);
    assert!(planned["events"].as_u64() > Some(0) && planned["applied"] == false);
    let done = run(&["compact", "--newest-only", "--apply"]);
    assert_eq!(
        (&planned["events"], &planned["bytes"]),
        (&done["events"], &done["bytes"])
    );
    let planned = run(&["retain", "--below", "100", "--without-snapshots"]);
    assert_eq!(
        (&planned["applied"], &run(&["verify"])["first_position"]),
        (&false.into(), &0.into())
    );
    let done = run(&["retain", "--below", "100", "--without-snapshots", "--apply"]);
    assert_eq!(planned["segments"], done["segments"]);
    assert_eq!(run(&["verify"])["first_position"], done["first_position"]);
    let verify = command(&["verify"], &backup).output().unwrap();
    assert_eq!(json_of(&verify)["events"], 300);
    let truncated = json_of(&command(&["truncate", "--to", "100"], &backup).output().unwrap());
    assert_eq!(
        (&truncated["events"], &truncated["set_aside"]),
        (&200.into(), &serde_json::Value::Null)
    );
    command(&["truncate", "--to", "100", "--apply"], &backup)
        .output()
        .unwrap();
    assert_eq!(
        json_of(&command(&["verify"], &backup).output().unwrap())["next_position"],
        100
    );
    let bench = run(&[
        "bench",
        "--seconds",
        "0.05",
        "--mode",
        "volatile",
        "--threads",
        "2",
    ]);
    assert!(bench["events"].as_u64() > Some(0) && bench["append_us"]["p50"].is_number());
    assert!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .all(|e| !e.unwrap().path().ends_with(".journal"))
    );
}

#[test]
fn damage_beside_the_segments_is_found_listed_and_repaired() {
    use pmem_journal::{Event, Expected, Journal, Snapshot};
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&[Event::new(7, 1, b"x")], Expected::Any).unwrap();
    journal
        .save_snapshots(&[Snapshot::new(7, 1, 0, b"state")], 2)
        .unwrap();
    let ls = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmem-journal"));
        command.args(["snapshot", "ls"]).arg(dir.path());
        json_of(&command.output().unwrap())
    };
    assert_eq!((&ls()["sequence"], &ls()["bytes"]), (&1.into(), &5.into()));
    // Beside the living writer nothing is changed.
    for arguments in [&["repair", "--apply"][..], &["truncate", "--to", "0", "--apply"]] {
        let refused = command(arguments, dir.path()).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            text(&refused.stderr).contains("is being written"),
            "{}",
            text(&refused.stderr)
        );
    }
    drop(journal);
    let file = dir.path().join(ls()["file"].as_str().unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[130] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(ls()["damaged"].as_str().unwrap().contains("checksum"));
    let verify = command(&["verify"], dir.path()).output().unwrap();
    assert_eq!(
        (verify.status.code(), &json_of(&verify)["ok"]),
        (Some(3), &false.into())
    );
    let planned = command(&["repair"], dir.path()).output().unwrap();
    assert_eq!(planned.status.code(), Some(3));
    assert!(file.exists());
    assert!(
        command(&["repair", "--apply"], dir.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(
        command(&["verify"], dir.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(!file.exists());
}

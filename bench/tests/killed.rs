//! A bench that is killed leaves nothing behind.

mod program;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use program::command;

const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Whether a folder in this one has something in it.
fn is_written_to(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .unwrap()
        .any(|entry| std::fs::read_dir(entry.unwrap().path()).is_ok_and(|mut within| within.next().is_some()))
}

#[test]
fn what_a_killed_bench_wrote_is_removed() {
    for arguments in [
        &["journal", "--seconds", "600"][..],
        &["accounts", "--transport", "shm", "--count", "1000000000"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = command(arguments)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the journal", || is_written_to(folder.path()));
        bench.kill().unwrap();
        bench.wait().unwrap();
        wait_until("its removal", || is_empty(folder.path()));
    }
}

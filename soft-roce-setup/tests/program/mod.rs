//! The built program, run as a user runs it.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_soft-roce-setup");

pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What the program did, with its words ready to be searched.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    command(arguments).output().expect("the program starts").into()
}

/// Runs a shell line in one guest.
pub(crate) fn in_guest(options: &[&str], line: &str) -> Ran {
    let arguments = ["run", "--guest"].into_iter().chain(options.iter().copied());
    run(arguments.chain(["--", "sh", "-c", line]))
}

/// The right to keep a core busy, over processes too: each guest in software wants one.
pub(crate) struct Core {
    _file: std::fs::File,
}

/// Waits for one of two cores.
pub(crate) fn one_core() -> Core {
    let files = core_files();
    loop {
        for file in &files {
            if rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _file = file.try_clone().expect("a file handle");
                return Core { _file };
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until no other guest test runs.
pub(crate) fn whole_machine() -> [Core; 2] {
    core_files().map(|_file| {
        rustix::fs::flock(&_file, FlockOperation::LockExclusive).expect("a lock");
        Core { _file }
    })
}

fn core_files() -> [std::fs::File; 2] {
    [0, 1].map(|core| {
        let path = std::env::temp_dir().join(format!("soft-roce-setup-guest-tests.{core}.lock"));
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("a lock file")
    })
}

/// Process ids of the guests that `parent` started.
pub(crate) fn guests_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // A zombie that its new parent has not yet reaped is dead.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits for something to come true.
pub(crate) fn wait_until(what: &str, patience: Duration, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < patience, "waited {patience:?} for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command in a guest that sleeps, and whose start is on the host's disk.
pub(crate) struct Sleeping {
    pub(crate) child: Child,
    pub(crate) guests: Vec<u32>,
    _folder: tempfile::TempDir,
}

pub(crate) fn sleeping_guest() -> Sleeping {
    let folder = tempfile::tempdir().expect("a folder");
    let started: PathBuf = folder.path().join("started");
    let output = folder.path().to_str().expect("a path of text");
    let line = "touch $OUTPUT_DIR/started; sleep 1000";
    let child = command(["run", "--guest", "--output", output, "--", "sh", "-c", line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    wait_until("the command to start", Duration::from_secs(180), || {
        started.exists()
    });
    let guests = guests_of(child.id());
    assert!(!guests.is_empty(), "there is a QEMU process");
    Sleeping {
        child,
        guests,
        _folder: folder,
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

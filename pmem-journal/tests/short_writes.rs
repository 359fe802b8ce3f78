//! The kernel writes less than it was asked to: a limit on the size of files (`RLIMIT_FSIZE`, its signal ignored) cuts a write short at
//! the limit and refuses the rest. What cannot be finished poisons the handle; of the batch that was cut nothing is left, and of
//! those acknowledged before nothing is lost.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pmem_journal::{EntityId, Error, Event, Expected, Journal, Mode, Options, Reader, Snapshot};
use rustix::process::{Resource, Rlimit, setrlimit};

const PAYLOAD: usize = 256;
const RECORD: u64 = 320;
/// Offset of the first record in a segment.
const DATA: u64 = 4096;

/// Runs an ignored test of this program, in a process that ignores the signal of the limit.
fn run(test: &str) {
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LIMITED", "1")
        // A file as output would be under the limit too.
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{test}: {}{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Whether this process was started by [`run`].
fn is_child() -> bool {
    std::env::var_os("LIMITED").is_some()
}

/// No write of this process goes past this offset of any file.
fn limit_files_to(bytes: Option<u64>) {
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

fn options(mode: Mode) -> Options {
    Options::new().require(mode).segment_size(2 << 20)
}

/// The journal, unless the directory cannot give the mode.
fn open(dir: &Path, mode: Mode) -> Option<Journal> {
    match Journal::open_with(dir, &options(mode)) {
        Ok((journal, _)) => Some(journal),
        Err(Error::ModeUnavailable { .. }) => None,
        Err(e) => panic!("{mode}: {e}"),
    }
}

/// Events `from..from + n`, each with its number in it.
fn payloads(from: u64, n: u64) -> Vec<[u8; PAYLOAD]> {
    (from..from + n)
        .map(|number| {
            let mut payload = [7; PAYLOAD];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            payload
        })
        .collect()
}

fn append(journal: &Journal, from: u64, n: u64) -> pmem_journal::Result<()> {
    let payloads = payloads(from, n);
    let events: Vec<_> = payloads.iter().map(|payload| Event::new(1, 1, payload)).collect();
    journal.append(&events, Expected::Exact(from)).map(drop)
}

fn segment(dir: &Path) -> PathBuf {
    dir.join(format!("{:016x}.seg", 0))
}

/// Whether anything is written in the 16 bytes at this offset of the journal's first segment.
fn is_written(dir: &Path, offset: u64) -> bool {
    let mut bytes = [0; 16];
    let file = File::open(segment(dir)).unwrap();
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes != [0; 16]
}

#[test]
fn a_write_cut_short_poisons_the_handle_and_leaves_nothing_of_its_batch() {
    run("child_whose_writes_are_cut_short");
}

#[test]
#[ignore = "the child's half, which the test above starts itself"]
fn child_whose_writes_are_cut_short() {
    if !is_child() {
        return;
    }
    // A batch that is written at once, and one whose first pieces are written while the rest is encoded.
    for (mode, batch) in [
        (Mode::Buffered, 100),
        (Mode::Buffered, 1024),
        (Mode::Direct, 100),
        (Mode::Direct, 1024),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("journal");
        let Some(journal) = open(&dir, mode) else {
            println!("not run: no {mode} here");
            continue;
        };
        let acknowledged = 150;
        for n in 0..acknowledged {
            append(&journal, n, 1).unwrap();
        }
        // In the middle of what comes next.
        let limit = (DATA + (acknowledged + batch / 2) * RECORD) / 4096 * 4096;
        limit_files_to(Some(limit));
        let failed = append(&journal, acknowledged, batch).unwrap_err();
        assert!(
            matches!(&failed, Error::Poisoned { cause } if cause.contains("write") && cause.contains("os error 27")),
            "{mode}, {batch}: {failed:?}"
        );
        assert!(
            is_written(&dir, limit - 16) && !is_written(&dir, limit),
            "{mode}, {batch}: it was not cut short at {limit}"
        );
        // There is no limit any more, and what is durable is still not known to this handle.
        limit_files_to(None);
        let refused = append(&journal, acknowledged, 1).unwrap_err();
        assert!(matches!(refused, Error::Poisoned { .. }), "{mode}: {refused:?}");
        let reader = Reader::open(&dir).unwrap();
        assert_eq!(reader.replay(0).unwrap().owned().count() as u64, acknowledged);
        drop(journal);

        let (journal, recovery) = Journal::open_with(&dir, &options(mode)).unwrap();
        assert_eq!(recovery.events, acknowledged, "{mode}, {batch}");
        append(&journal, acknowledged, batch).unwrap();
        let mut replay = journal.replay(0).unwrap();
        for expected in payloads(0, acknowledged + batch) {
            assert_eq!(replay.next_event().unwrap().unwrap().payload, expected);
        }
        assert!(replay.next_event().unwrap().is_none());
        drop(journal);
        assert!(reader.verify().unwrap().clean);
    }
}

#[test]
fn a_snapshot_cut_short_is_an_error_that_leaves_the_one_before() {
    run("child_whose_snapshot_is_cut_short");
}

#[test]
#[ignore = "the child's half, which the test above starts itself"]
fn child_whose_snapshot_is_cut_short() {
    if !is_child() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let journal = open(dir, Mode::Buffered).unwrap();
    append(&journal, 0, 10).unwrap();
    let snapshot = |sequence: u64, bytes: usize| Snapshot::new(1, sequence, sequence - 1, vec![9; bytes]);
    journal.save_snapshots(&[snapshot(5, 100)], 2).unwrap();

    limit_files_to(Some(64 << 10));
    let refused = journal.save_snapshots(&[snapshot(10, 100 << 10)], 2);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    let found = journal.snapshot(EntityId(1)).unwrap();
    assert_eq!((found.snapshot.unwrap().sequence, found.refused.len()), (5, 0));
    let left = fs::read_dir(dir.join("snapshots")).unwrap().count();
    assert_eq!(left, 1, "half a snapshot is left");

    limit_files_to(None);
    journal.save_snapshots(&[snapshot(10, 100 << 10)], 2).unwrap();
    append(&journal, 10, 1).unwrap();
}

//! A disk that answers EIO, by the kernel's device mapper: on writes and syncs the handle is poisoned, on reads the answer is
//! an error and no signal, and when the disk is well again every acknowledged event is there.
//!
//! It runs as root where device mapper and loop devices are to be had, as in a guest of `soft-roce-setup run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pmem_journal::{Error, Event, Expected, Journal, Mode, Options, Reader};

const MIB: u64 = 64;
const SECTORS: u64 = MIB << 11;

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        // No udev here to wait for.
        .env("DM_DISABLE_UDEV", "1")
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file system on a disk whose health can be set.
struct Disk {
    name: String,
    under: String,
    mount: PathBuf,
    mounted: bool,
    _home: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        for module in ["loop", "dm-mod", "dm-flakey"] {
            tool("modprobe", &[module]);
        }
        let home = tempfile::tempdir().unwrap();
        let (file, mount) = (home.path().join("disk"), home.path().join("mount"));
        fs::File::create(&file).unwrap().set_len(MIB << 20).unwrap();
        fs::create_dir(&mount).unwrap();
        let under = tool("losetup", &["--find", "--show", file.to_str().unwrap()]);
        let name = format!("journal-{}", std::process::id());
        let well = format!("0 {SECTORS} linear {under} 0");
        tool("dmsetup", &["create", &name, "--table", &well]);
        let mut disk = Disk {
            name,
            under,
            mount,
            mounted: false,
            _home: home,
        };
        tool("mkfs.ext4", &["-q", "-F", &disk.device()]);
        disk.mount();
        disk
    }

    fn device(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    fn mount(&mut self) {
        tool("mount", &[&self.device(), self.mount.to_str().unwrap()]);
        self.mounted = true;
    }

    fn unmount(&mut self) {
        self.mounted = false;
        tool("umount", &[self.mount.to_str().unwrap()]);
    }

    fn become_what(&self, target: &str) {
        tool("dmsetup", &["load", &self.name, "--table", target]);
        // What the page cache still holds is not written before: a failing disk does not wait for that.
        tool("dmsetup", &["suspend", "--noflush", "--nolockfs", &self.name]);
        tool("dmsetup", &["resume", &self.name]);
    }

    fn heal(&self) {
        self.become_what(&format!("0 {SECTORS} linear {} 0", self.under));
    }

    /// Writes fail, reads do not.
    fn fail_writes(&self) {
        self.become_what(&format!(
            "0 {SECTORS} flakey {} 0 0 3600 1 error_writes",
            self.under
        ));
    }

    /// Nothing works.
    fn fail(&self) {
        self.become_what(&format!("0 {SECTORS} error"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed leaves as little as it can.
        let quietly = |name: &str, arguments: &[&str]| drop(Command::new(name).args(arguments).output());
        if self.mounted {
            quietly("umount", &["--lazy", self.mount.to_str().unwrap()]);
        }
        quietly("dmsetup", &["remove", "--force", &self.name]);
        quietly("losetup", &["--detach", &self.under]);
    }
}

fn options() -> Options {
    Options::new().require(Mode::Buffered).segment_size(64 << 10)
}

fn event(n: u64) -> [u8; 200] {
    let mut payload = [n as u8; 200];
    payload[..8].copy_from_slice(&n.to_le_bytes());
    payload
}

fn append(journal: &Journal, n: u64) -> pmem_journal::Result<()> {
    journal
        .append(&[Event::new(1, 1, &event(n))], Expected::Exact(n))
        .map(drop)
}

/// Every acknowledged event is there, in order; at most one more, which was under way when the disk failed.
fn all_there(dir: &Path, acknowledged: u64) {
    let (journal, recovery) = Journal::open_with(dir, &options()).unwrap();
    assert!(
        (acknowledged..=acknowledged + 1).contains(&recovery.events),
        "{acknowledged} acknowledged, {} there",
        recovery.events
    );
    let mut replay = journal.replay(0).unwrap();
    for n in 0..recovery.events {
        assert_eq!(replay.next_event().unwrap().unwrap().payload, event(n));
    }
    append(&journal, recovery.events).unwrap();
}

fn may_run() -> bool {
    if std::env::var("JOURNAL_REQUIRE_PMEM").is_ok_and(|v| v == "1") {
        return true;
    }
    println!("JOURNAL_REQUIRE_PMEM=1 is not set: not in a guest, so no disk is made to fail");
    false
}

#[test]
#[ignore = "needs root, device mapper and loop devices: run with --ignored in a guest"]
fn a_disk_that_fails_to_write_poisons_the_handle_and_loses_nothing_acknowledged() {
    if !may_run() {
        return;
    }
    for broken in [Disk::fail_writes, Disk::fail] {
        let mut disk = Disk::new();
        let dir = disk.mount.join("journal");
        let (journal, _) = Journal::open_with(&dir, &options()).unwrap();
        // Several segments.
        let acknowledged = 700;
        for n in 0..acknowledged {
            append(&journal, n).unwrap();
        }
        broken(&disk);
        let failed = append(&journal, acknowledged).unwrap_err();
        assert!(matches!(failed, Error::Poisoned { .. }), "{failed:?}");
        // The disk is well again, and what is durable is still not known to this handle.
        disk.heal();
        let refused = append(&journal, acknowledged).unwrap_err();
        assert!(matches!(refused, Error::Poisoned { .. }), "{refused:?}");
        assert!(journal.append(&[Event::new(2, 1, b"x")], Expected::Any).is_err());
        drop(journal);
        // A file system that saw an error may have made itself read-only.
        disk.unmount();
        disk.mount();
        all_there(&dir, acknowledged);
        disk.unmount();
    }
}

#[test]
#[ignore = "needs root, device mapper and loop devices: run with --ignored in a guest"]
fn a_disk_that_fails_to_read_is_an_error_and_no_signal() {
    if !may_run() {
        return;
    }
    let mut disk = Disk::new();
    let dir = disk.mount.join("journal");
    let (journal, _) = Journal::open_with(&dir, &options()).unwrap();
    for n in 0..700 {
        append(&journal, n).unwrap();
    }
    drop(journal);
    disk.unmount();
    disk.mount();
    // Nothing but the directory is in the page cache now.
    let reader = Reader::open(&dir).unwrap();
    let first = reader.replay(0).unwrap();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    disk.fail();
    let ended = first.owned().find_map(Result::err);
    assert!(ended.is_some(), "a disk that cannot be read was read to the end");
    for refused in [
        reader.verify().map(drop),
        Journal::open_with(&dir, &options()).map(drop),
    ] {
        assert!(refused.is_err());
    }
    disk.heal();
    disk.unmount();
    disk.mount();
    all_there(&dir, 700);
    disk.unmount();
}

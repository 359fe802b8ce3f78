//! What one ordinary guest shows: it boots once, and each test looks at its part of what came out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::program::{PROGRAM, command, one_core};

/// What the guest did and left, all of it read: a static is never dropped, and a folder in it would stay.
struct Boot {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    took: Duration,
    /// What it was to print.
    bytes: Vec<u8>,
    /// What stands in the output folder.
    output: HashMap<String, String>,
    /// Whether what it wrote outside of that folder is there.
    wrote_elsewhere: bool,
    temporary_files: usize,
}

impl Boot {
    /// A file of the output folder.
    fn file(&self, name: &str) -> &str {
        self.output.get(name).unwrap_or_else(|| {
            let said = String::from_utf8_lossy(&self.stderr[..self.stderr.len().min(4096)]);
            panic!("the guest left no {name}\n{said}")
        })
    }
}

static BOOT: LazyLock<Boot> = LazyLock::new(|| {
    let _core = one_core();
    let folder = tempfile::tempdir().unwrap();
    let within = |name: &str| folder.path().join(name);
    let (source, output, elsewhere, temporary) = (
        within("bytes"),
        within("out, put"),
        within("elsewhere"),
        within("temporary"),
    );
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&source, &bytes).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    // A guest's kernel has rdma_rxe: there the native way can be tested on any machine.
    let line = format!(
        "{{
            rdma link show $SOFT_ROCE_DEVICE/1; findmnt -no OPTIONS $PMEM_DIR; ulimit -l; pwd
            ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 500 >/dev/null &
            sleep 2; ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 500 $SOFT_ROCE_ADDRESS && echo latency measured
        }} >$OUTPUT_DIR/devices 2>&1

        echo kept >$OUTPUT_DIR/kept
        echo lost >{elsewhere}; cat {elsewhere} >$OUTPUT_DIR/read-back

        (
            set -e; S={PROGRAM}; unset PMEM_DIR SOFT_ROCE_DEVICE
            $S up; $S down; $S down; test ! -e /sys/class/infiniband/rxe0; test ! -e /sys/class/net/dm0
            $S run -- sh -c 'test $SOFT_ROCE_DEVICE = rxe0 && test $SOFT_ROCE_ADDRESS = 10.77.0.1 && test -d $PMEM_DIR'
            test ! -e /sys/class/infiniband/rxe0
            $S up; $S up; test -e /sys/class/infiniband/rxe0
            $S doctor
            set +e; $S run --native -- sh -c 'exit 5'; test $? = 5 || exit 1
            $S run --native --deadline 1 -- sleep 100; test $? = 124 || exit 2
            $S run --native --nodes 2 -- true; test $? = 125 || exit 3
            $S up --netdev lo; test $? = 125 || exit 4
        ) >$OUTPUT_DIR/native 2>&1
        echo natively: $? >>$OUTPUT_DIR/native

        sleep 1000 &
        cat {source}; head -c 1000 {source} >&2
        exit 3",
        elsewhere = elsewhere.display(),
        source = source.display(),
    );
    let started = Instant::now();
    let ran = command(["run", "--guest", "--output"])
        .arg(&output)
        .args(["--", "sh", "-c", &line])
        .env("TMPDIR", &temporary)
        .output()
        .expect("the program starts");
    Boot {
        status: ran.status.code(),
        stdout: ran.stdout,
        stderr: ran.stderr,
        took: started.elapsed(),
        bytes,
        output: texts(&output),
        wrote_elsewhere: elsewhere.exists(),
        temporary_files: std::fs::read_dir(&temporary).unwrap().count(),
    }
});

/// The files of a folder that is there, by their names.
fn texts(folder: &Path) -> HashMap<String, String> {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    files
        .map(|file| {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), text)
        })
        .collect()
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn stdout_and_stderr_arrive_apart_and_byte_for_byte() {
    let Boot {
        stdout,
        stderr,
        bytes,
        ..
    } = &*BOOT;
    assert!(
        stdout == bytes,
        "{} bytes of {} came out",
        stdout.len(),
        bytes.len()
    );
    assert!(stderr == &bytes[..1000], "{}", String::from_utf8_lossy(stderr));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn the_exit_status_is_passed_on() {
    assert_eq!(BOOT.status, Some(3));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn there_is_an_rdma_device_and_a_dax_mount() {
    let devices = BOOT.file("devices");
    let here = std::env::current_dir().unwrap();
    for words in [
        "state ACTIVE",
        "dax=always",
        "unlimited",
        "latency measured",
        here.to_str().unwrap(),
    ] {
        assert!(devices.contains(words), "no {words:?} in:\n{devices}");
    }
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn only_the_output_folder_outlives_the_guest() {
    assert_eq!(BOOT.file("kept"), "kept\n");
    assert_eq!(BOOT.file("read-back"), "lost\n");
    assert!(!BOOT.wrote_elsewhere);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn what_the_command_leaves_running_does_not_hold_the_run() {
    assert!(BOOT.took < Duration::from_secs(500), "{:?}", BOOT.took);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn no_temporary_file_is_left() {
    assert_eq!(BOOT.temporary_files, 0);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn the_native_way_makes_a_device_and_takes_it_away() {
    let native = BOOT.file("native");
    assert!(native.contains("on this machine's own kernel."), "{native}");
    assert!(native.ends_with("natively: 0\n"), "{native}");
}

//! The floors run everywhere, in two processes, and their figures hang together.

mod program;

use std::time::{Duration, Instant};

use program::{bench, command, measurements, value};
use serde_json::Value;

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn check_messages(figures: &[Value], transport: &str, size: u64) {
    let latency = |metric| value(figures, "latency", transport, size, metric);
    assert!(latency("p50") > 0.01, "faster than light: {} us", latency("p50"));
    assert!(latency("p50") <= latency("p99") && latency("p99") <= latency("p99.9"));
    assert!(latency("cpu_ns_per_message") > 0.0);
    let throughput = |metric| value(figures, "throughput", transport, size, metric);
    assert!(throughput("cpu_ns_per_message") > 0.0);
    let (messages, megabytes) = (
        throughput("messages_per_second"),
        throughput("megabytes_per_second"),
    );
    // Each is a median over rounds; over an odd number of rounds they are of the same round.
    assert!((messages * size as f64 / 1e6 / megabytes - 1.0).abs() < 1e-6);
}

#[test]
fn tcp_in_every_way_of_waiting() {
    for wait in ["spin", "adaptive", "park"] {
        let figures = measurements(&["floor", "tcp", "--wait", wait, "--count", "3000", "--rounds", "3"]);
        check_messages(&figures, "floor-tcp", 64);
    }
}

#[test]
fn shm_in_every_way_of_waiting() {
    for wait in ["spin", "adaptive", "park"] {
        let figures = measurements(&["floor", "shm", "--wait", wait, "--count", "3000", "--rounds", "3"]);
        check_messages(&figures, "floor-shm", 64);
    }
}

#[test]
fn sizes_from_the_smallest_to_the_largest() {
    for floor in ["tcp", "shm"] {
        let name = format!("floor-{floor}");
        let figures = measurements(&[
            "floor",
            floor,
            "--size",
            "8,1000,64KiB,16MiB",
            "--count",
            "9",
            "--rounds",
            "3",
        ]);
        for size in [8, 1000, 64 << 10, 16 << 20] {
            check_messages(&figures, &name, size);
        }
    }
}

#[test]
fn the_journal_in_every_mode_that_needs_no_hardware() {
    for mode in ["buffered", "volatile"] {
        let name = format!("floor-{mode}");
        let arguments = [
            "floor", "journal", "--mode", mode, "--count", "300", "--rounds", "3", "--batch", "4",
        ];
        let figures = measurements(&arguments);
        let journal = |metric| value(&figures, "journal", &name, 256, metric);
        assert!(
            journal("p50") > 0.0 && journal("p50") <= journal("p99") && journal("p99") <= journal("p99.9")
        );
        assert!(journal("events_per_second") > 0.0);
        assert!(
            (journal("events_per_second") * 256.0 / 1e6 / journal("megabytes_per_second") - 1.0).abs() < 1e-6
        );
    }
}

#[test]
fn the_journal_says_why_there_is_no_persistent_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = bench(&[
        "floor",
        "journal",
        "--mode",
        "pmem",
        "--dir",
        folder.path().to_str().expect("ASCII"),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    // Where the temporary folder is on a DAX mount, there is.
    assert!(
        output.status.success() || (output.status.code() == Some(2) && said.contains("MAP_SYNC")),
        "{said}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("still there").count(),
        0,
        "nothing stays behind"
    );
}

#[test]
fn a_time_is_kept() {
    let began = Instant::now();
    let figures = measurements(&["floor", "shm", "--seconds", "0.5", "--rounds", "3"]);
    assert!(!figures.is_empty());
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(400) && took < Duration::from_secs(20),
        "{took:?}"
    );
}

/// A killed bench leaves nobody behind who burns a core.
#[test]
fn the_other_process_dies_with_a_killed_parent() {
    let mut parent = command(&["floor", "shm", "--seconds", "60", "--wait", "spin"])
        .spawn()
        .expect("it starts");
    let child = its_child(&parent);
    let deadline = Instant::now() + PATIENCE;
    std::thread::sleep(Duration::from_millis(200));
    parent
        .kill()
        .and_then(|()| parent.wait())
        .expect("it can be killed");
    while running(&child) {
        assert!(Instant::now() < deadline, "the second process outlives the first");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// And a killed second process is an error, not a wait.
#[test]
fn a_killed_other_process_is_an_error() {
    let parent = command(&["floor", "shm", "--seconds", "60", "--wait", "spin"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let child = its_child(&parent).parse().expect("a process id");
    std::thread::sleep(Duration::from_millis(500));
    let child = rustix::process::Pid::from_raw(child).expect("a process id");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it can be killed");
    let output = parent.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the other process of the bench ended"));
}

/// The second process of a bench, once there is one.
fn its_child(parent: &std::process::Child) -> String {
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = std::fs::read_to_string(&children).unwrap_or_default();
        match listed.split_whitespace().next() {
            Some(pid) => return pid.to_owned(),
            None => assert!(Instant::now() < deadline, "no second process was started"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A zombie that nobody has waited for yet runs no more.
fn running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

//! The program under test.

#![allow(dead_code)]

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program, without what the environment might tell it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("SOFT_ROCE_DEVICE")
        .env_remove("PMEM_DIR");
    command
}

/// Longer than one run of it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the program to its end, which it does not reach by itself if that takes too long.
pub(crate) fn bench(arguments: &[&str]) -> Output {
    let child = command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let id = Pid::from_child(&child);
    let (done, is_done) = channel::<()>();
    let watching = std::thread::spawn(move || {
        let late = is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if late {
            // It is there, if only as a zombie: nobody has waited for it yet.
            kill_process(id, Signal::KILL).expect("it can be killed");
        }
        late
    });
    let output = child.wait_with_output().expect("it ends");
    drop(done);
    let late = watching.join().expect("somebody watches");
    assert!(
        !late,
        "{arguments:?}: not done in {PATIENCE:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs the program and returns the JSON lines it wrote to its standard output.
#[track_caller]
pub(crate) fn measurements(arguments: &[&str]) -> Vec<Value> {
    let output = bench(&[arguments, &["--json", "/dev/stdout"]].concat());
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{arguments:?}: {err}");
    out.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// The value of the one measurement that is so named.
#[track_caller]
pub(crate) fn value(measurements: &[Value], bench: &str, transport: &str, size: u64, metric: &str) -> f64 {
    let found: Vec<&Value> = measurements
        .iter()
        .filter(|one| {
            one["bench"] == bench
                && one["transport"] == transport
                && one["size"] == size
                && one["metric"] == metric
        })
        .collect();
    assert_eq!(
        found.len(),
        1,
        "{bench} {transport} {size} {metric} in {measurements:?}"
    );
    found[0]["value"].as_f64().expect("a number")
}

/// Value, floor and ratio of the one measurement that is so named.
#[track_caller]
pub(crate) fn figure(
    measurements: &[Value],
    bench: &str,
    transport: &str,
    size: u64,
    metric: &str,
) -> (f64, f64, f64) {
    value(measurements, bench, transport, size, metric);
    let found = measurements.iter().find(|one| {
        one["bench"] == bench
            && one["transport"] == transport
            && one["size"] == size
            && one["metric"] == metric
    });
    let number = |field: &str| {
        found.and_then(|one| one[field].as_f64()).unwrap_or_else(|| {
            panic!("no {field} of {bench} {transport} {size} {metric} in {measurements:?}")
        })
    };
    (number("value"), number("floor"), number("ratio"))
}

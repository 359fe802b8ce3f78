//! The rdma rows and the accounts over RDMA, on a real device: `soft-roce-setup run -- …/rdma-… --ignored`.

mod program;

use std::process::{Command, Stdio};

use program::figure;
use serde_json::Value;

/// As for the others, but with what the environment says of the device.
#[track_caller]
fn measurements(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .args(["--json", "/dev/stdout"])
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{arguments:?}: {err}");
    out.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[test]
#[ignore = "needs an RDMA device and perftest: soft-roce-setup run"]
fn latency_and_throughput_beside_perftest() {
    for (bench, metric, wait, rounds) in [
        ("latency", "p50", "spin", "1"),
        ("latency", "p50", "adaptive", "1"),
        ("latency", "p50", "park", "1"),
        ("throughput", "messages_per_second", "adaptive", "2"),
    ] {
        let figures = measurements(&[
            bench,
            "--transport",
            "rdma",
            "--wait",
            wait,
            "--count",
            "500",
            "--rounds",
            rounds,
        ]);
        let (value, floor, _) = figure(&figures, bench, "rdma", 64, metric);
        assert!(value > 0.0 && floor > 0.0, "{value} beside {floor}");
    }
}

#[test]
#[ignore = "needs an RDMA device and perftest: soft-roce-setup run"]
fn small_frames_arrive_polled_and_announced() {
    let figures = measurements(&[
        "latency",
        "--transport",
        "rdma",
        "--small-frames",
        "polled,announced",
        "--count",
        "300",
        "--rounds",
        "1",
    ]);
    for transport in ["rdma", "rdma-announced"] {
        figure(&figures, "latency", transport, 64, "p50");
    }
}

#[test]
#[ignore = "needs an RDMA device and perftest: soft-roce-setup run"]
fn sizes_from_the_smallest_to_a_mebibyte() {
    let figures = measurements(&[
        "latency",
        "--transport",
        "rdma",
        "--size",
        "8,1000,64KiB,1MiB",
        "--count",
        "30",
        "--rounds",
        "1",
    ]);
    for size in [8, 1000, 64 << 10, 1 << 20] {
        figure(&figures, "latency", "rdma", size, "p50");
    }
}

#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn the_accounts_books_balance() {
    for wait in ["adaptive", "park"] {
        let figures = measurements(&[
            "accounts",
            "--transport",
            "rdma",
            "--kill",
            "3",
            "--count",
            "1500",
            "--wait",
            wait,
        ]);
        assert!(!figures.is_empty());
    }
}

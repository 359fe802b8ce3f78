//! Our own sides run beside their floors, in two processes, and say what they found.

mod program;

use std::time::{Duration, Instant};

use program::{bench, figure, measurements, value};
use rustix::thread::{CpuSet, sched_getaffinity};

fn check(bench: &str, transport: &str, wait: &str) {
    let metric = match bench {
        "latency" => "p50",
        _ => "messages_per_second",
    };
    let figures = measurements(&[
        bench,
        "--transport",
        transport,
        "--wait",
        wait,
        "--count",
        "3000",
        "--rounds",
        "3",
    ]);
    let (value, floor, ratio) = figure(&figures, bench, transport, 64, metric);
    assert!(value > 0.0 && floor > 0.0, "{value} beside {floor}");
    assert!((ratio - value / floor).abs() < 1e-9);
    if (bench, transport) == ("latency", "shm") {
        let (same, through, _) = figure(&figures, bench, "shm-through-memory", 64, metric);
        assert_eq!(same, value, "one run beside two floors");
        assert!(through > 0.0);
    }
}

#[test]
fn mailboxes_over_tcp_in_every_way_of_waiting() {
    for wait in ["spin", "adaptive", "park"] {
        check("latency", "tcp", wait);
        check("throughput", "tcp", wait);
    }
}

#[test]
fn mailboxes_over_shm_in_every_way_of_waiting() {
    for wait in ["spin", "adaptive", "park"] {
        check("latency", "shm", wait);
        check("throughput", "shm", wait);
    }
}

#[test]
fn sizes_from_the_smallest_to_the_largest() {
    for transport in ["tcp", "shm"] {
        for bench in ["latency", "throughput"] {
            let figures = measurements(&[
                bench,
                "--transport",
                transport,
                "--size",
                "8,1000,64KiB,16MiB",
                "--count",
                "9",
                "--rounds",
                "3",
            ]);
            for size in [8, 1000, 64 << 10, 16 << 20] {
                figure(&figures, bench, transport, size, "cpu_ns_per_message");
            }
        }
    }
}

#[test]
fn several_senders_and_peers_lose_nothing() {
    for (senders, peers) in [("1", "3"), ("3", "1"), ("2", "5")] {
        for transport in ["tcp", "shm"] {
            let arguments = [
                "throughput",
                "--transport",
                transport,
                "--senders",
                senders,
                "--peers",
                peers,
                "--count",
                "3001",
                "--rounds",
                "3",
            ];
            figure(
                &measurements(&arguments),
                "throughput",
                transport,
                64,
                "messages_per_second",
            );
        }
    }
    let arguments = [
        "latency",
        "--transport",
        "shm",
        "--peers",
        "12",
        "--count",
        "300",
        "--rounds",
        "3",
    ];
    figure(&measurements(&arguments), "latency", "shm", 64, "p99.9");
}

#[test]
fn at_a_fixed_rate_the_rate_is_kept_and_times_are_from_when_messages_were_due() {
    for wait in ["adaptive", "park"] {
        let figures = measurements(&[
            "latency",
            "--transport",
            "tcp",
            "--rate",
            "500",
            "--senders",
            "2",
            "--wait",
            wait,
            "--count",
            "150",
            "--rounds",
            "3",
        ]);
        // On a machine that is too busy for it, fewer; never many more.
        let reached = value(&figures, "paced", "tcp", 64, "messages_per_second");
        assert!(reached > 0.0 && reached < 1000.0, "{reached} messages/s");
        let [p50, p9999] = ["p50", "p99.99"].map(|metric| value(&figures, "paced", "tcp", 64, metric));
        assert!(p50 > 0.0 && p50 <= p9999, "{p50} us, {p9999} us");
    }
    // Many more than any machine can: the last ones wait for all before them, and that is in the figures.
    let figures = measurements(&[
        "latency",
        "--transport",
        "tcp",
        "--rate",
        "1e9",
        "--count",
        "60000",
        "--rounds",
        "3",
    ]);
    let [p50, p99] = ["p50", "p99"].map(|metric| value(&figures, "paced", "tcp", 64, metric));
    assert!(
        p50 > 50.0 && p99 > p50,
        "{p50} us, {p99} us: those that were due wait"
    );
}

#[test]
fn where_the_nanoseconds_go_adds_up_to_one_way() {
    let figures = measurements(&[
        "latency",
        "--transport",
        "shm",
        "--where",
        "--count",
        "3000",
        "--rounds",
        "3",
    ]);
    let of = |metric: &str| value(&figures, "where", "shm", 64, metric);
    let stages = ["claim", "encode", "commit", "post", "device", "poll", "dispatch"];
    let sum: f64 = stages.iter().map(|stage| of(&format!("{stage}_ns"))).sum();
    assert!(sum > 0.0, "{figures:?}");
}

#[test]
fn a_floor_may_have_another_size() {
    let figures = measurements(&[
        "latency",
        "--transport",
        "shm",
        "--floor-size",
        "80",
        "--count",
        "300",
        "--rounds",
        "3",
    ]);
    figure(&figures, "latency", "shm", 64, "p99.9");
}

#[test]
fn the_smallest_ring_is_enough_for_small_messages() {
    for transport in ["tcp", "shm"] {
        let arguments = [
            "throughput",
            "--transport",
            transport,
            "--ring",
            "4KiB",
            "--count",
            "20000",
            "--rounds",
            "3",
        ];
        figure(
            &measurements(&arguments),
            "throughput",
            transport,
            64,
            "megabytes_per_second",
        );
    }
}

#[test]
fn the_journal_beside_its_floor() {
    for (mode, threads) in [("buffered", "1"), ("volatile", "1"), ("buffered", "3")] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().to_str().expect("ASCII");
        let figures = measurements(&[
            "journal",
            "--mode",
            mode,
            "--dir",
            dir,
            "--threads",
            threads,
            "--batch",
            "2",
            "--count",
            "300",
            "--rounds",
            "3",
        ]);
        figure(&figures, "journal", mode, 256, "p50");
        figure(&figures, "journal", mode, 256, "events_per_second");
        let left = std::fs::read_dir(folder.path()).expect("still there").count();
        assert_eq!(left, 0, "nothing stays behind");
    }
}

#[test]
fn a_mode_that_this_machine_does_not_have_is_named() {
    let output = bench(&["journal", "--mode", "pmem", "--dir", "/proc", "--count", "10"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/proc"), "{said}");
}

/// What somebody sees who has just cloned this.
#[test]
fn without_arguments_there_are_rows_for_tcp_shm_and_a_journal() {
    let began = Instant::now();
    let output = bench(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for row in [
        "latency tcp",
        "throughput tcp",
        "latency shm",
        "throughput shm",
        "journal buffered",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with(row)),
            "no row `{row}` in\n{said}"
        );
    }
    // A quarter of a minute where nobody else is; a machine may be busy.
    assert!(
        began.elapsed() < Duration::from_secs(240),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn two_processes_can_be_kept_on_two_cores() {
    // Those that it may run on: how much of them it may use is another thing.
    let allowed = sched_getaffinity(None).expect("the cores of this process");
    let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).count();
    let arguments = [
        "latency",
        "--transport",
        "shm",
        "--pin",
        "--count",
        "3000",
        "--rounds",
        "3",
    ];
    let output = bench(&arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if cores == 1 {
        assert_eq!(output.status.code(), Some(2));
        assert!(err.contains("--pin needs two cores"), "{err}");
    } else {
        assert!(output.status.success(), "{err}");
        assert!(
            out.contains(&format!("{cores} cores")) && out.contains("pinned to cores"),
            "{out}"
        );
    }
}

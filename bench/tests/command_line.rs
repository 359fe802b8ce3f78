//! What is wrong on the command line is said clearly, before anything is measured, with exit status 2.

mod program;

use std::fs::File;

use program::{bench, command};

/// A bench that is soon done.
const SHORT: [&str; 6] = ["floor", "tcp", "--count", "10", "--rounds", "1"];

#[track_caller]
fn refused(arguments: &[&str], wanted: &str) {
    let output = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(wanted), "{arguments:?} said: {said}");
    assert!(!said.contains("panicked"), "{arguments:?} said: {said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_unknown_command_or_flag() {
    refused(&["latencies"], "latencies");
    refused(&["latency", "--transport", "tcp", "--sizes", "64"], "--sizes");
}

#[test]
fn an_unknown_transport_mode_or_way_of_waiting() {
    refused(
        &["latency", "--transport", "udp"],
        "possible values: tcp, shm, rdma",
    );
    refused(&["floor", "journal", "--mode", "fast"], "pmem");
    refused(
        &["floor", "tcp", "--wait", "sleep"],
        "possible values: spin, adaptive, park",
    );
}

#[test]
fn a_missing_transport() {
    refused(&["latency"], "--transport");
    refused(&["accounts", "--kill", "3"], "--transport");
}

#[test]
fn numbers_out_of_range() {
    refused(&["floor", "tcp", "--size", "0"], "--size");
    refused(&["floor", "tcp", "--size", "64,1GiB"], "1GiB");
    refused(&["floor", "tcp", "--count", "0"], "--count");
    refused(&["floor", "tcp", "--count=-5"], "--count");
    refused(&["floor", "tcp", "--seconds", "forever"], "--seconds");
    refused(&["floor", "tcp", "--rounds", "0"], "--rounds");
    refused(&["observed", "--pairs", "0"], "--pairs");
    refused(&["journal", "--batch", "0"], "--batch");
    refused(&["journal", "--threads", "100000"], "--threads");
    refused(
        &["accounts", "--transport", "tcp", "--accounts", "1"],
        "--accounts",
    );
}

#[test]
fn a_count_and_a_time_at_once() {
    refused(
        &["floor", "tcp", "--count", "10", "--seconds", "1"],
        "cannot be used with",
    );
}

#[test]
fn a_load_that_makes_no_sense() {
    refused(&["latency", "--transport", "tcp", "--rate", "0"], "--rate");
    refused(&["latency", "--transport", "tcp", "--senders", "2"], "--rate");
    refused(
        &["throughput", "--transport", "tcp", "--senders", "0"],
        "--senders",
    );
    refused(
        &["throughput", "--transport", "tcp", "--peers", "1000"],
        "--peers",
    );
    refused(
        &["latency", "--transport", "tcp", "--rate", "100", "--where"],
        "cannot be used with",
    );
    refused(
        &["latency", "--transport", "shm", "--small-frames", "announced"],
        "over shm there is nothing to choose",
    );
}

#[test]
#[cfg(not(feature = "journal-peers"))]
fn what_is_not_in_this_build() {
    refused(&["journal", "--peers"], "--features journal-peers");
}

#[test]
fn an_unknown_device() {
    refused(
        &["floor", "rdma", "--device", "no-such-device"],
        "no RDMA device `no-such-device`",
    );
}

#[test]
fn a_journal_folder_that_is_not_there() {
    refused(
        &["floor", "journal", "--dir", "/no/such/folder"],
        "/no/such/folder: no such folder",
    );
    refused(
        &["accounts", "--transport", "tcp", "--dir", "/no/such/folder"],
        "cannot make a folder in /no/such/folder",
    );
}

#[test]
fn a_json_path_that_cannot_be_written() {
    for path in ["/no/such/folder/figures", "/"] {
        refused(&["floor", "tcp", "--json", path], &format!("cannot open {path}"));
    }
}

#[test]
fn a_device_that_takes_no_output_is_named() {
    for (arguments, said) in [
        (&SHORT[..], "cannot write to the standard output"),
        (
            &[&SHORT[..], &["--json", "/dev/full"]].concat(),
            "cannot write to /dev/full",
        ),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command(arguments).stdout(full).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(said) && !words.contains("panicked"), "{words}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_bench_without_a_word() {
    let to_standard_output = [&SHORT[..], &["--json", "/dev/stdout"]].concat();
    for arguments in [&SHORT[..], &to_standard_output] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*words), (Some(141), ""), "{arguments:?}");
    }
}

#[test]
fn the_other_half_started_by_hand_does_not_hang() {
    let output = bench(&["far-half"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bench --help"));
}

//! Real guests, for machines that have QEMU and the packages: `cargo test -p soft-roce-setup --test guest -- --ignored`.
//! Here are the tests whose guest ends in a way of its own; those that look at an ordinary one share it.

mod one_boot;
#[path = "../program/mod.rs"]
mod program;
mod two_nodes;

use std::time::{Duration, Instant};

use program::{PROGRAM, command, in_guest, is_alive, one_core, run, sleeping_guest, wait_until};
use rustix::process::{Pid, Signal, kill_process};

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn the_signal_that_ended_the_command_is_passed_on() {
    let _core = one_core();
    assert_eq!(in_guest(&[], "kill -9 $$").status, Some(128 + 9));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn output_comes_while_the_command_still_runs() {
    let _core = one_core();
    let line = "echo first; sleep 1000";
    let mut child = command(["run", "--guest", "--", "sh", "-c", line])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"first\n");
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_deadline_shows_the_console_and_is_124() {
    let _core = one_core();
    let started = Instant::now();
    let line = "echo last words >/dev/console; sleep 1000";
    let ran = in_guest(&["--deadline", "40"], line);
    assert_eq!(ran.status, Some(124), "{}", ran.stderr);
    assert!(ran.stderr.contains("last words"), "{}", ran.stderr);
    assert!(started.elapsed() < Duration::from_secs(300));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_boot_deadline_is_an_error_of_its_own() {
    let _core = one_core();
    let ran = in_guest(&["--boot-deadline", "1", "--accel", "tcg"], "true");
    assert_eq!(ran.status, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("TCG"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_kernel_that_panics_shows_its_console() {
    let _core = one_core();
    let ran = in_guest(
        &[],
        "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 100",
    );
    assert_eq!(ran.status, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("Kernel panic"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_directory_that_a_guest_lacks_is_named() {
    let _core = one_core();
    let output = command(["run", "--guest", "--", "true"])
        .current_dir("/proc/sys/fs/binfmt_misc/..")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "the guest has /proc/sys/fs too");
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let ran: program::Ran = command(["run", "--guest", "--", "true"])
        .current_dir(folder.path())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.status, Some(127));
    assert!(ran.stderr.contains("no directory"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn ending_signals_end_the_guest_too() {
    let _core = one_core();
    for (number, name) in [(2, Signal::INT), (1, Signal::HUP)] {
        let mut run = sleeping_guest();
        signal(run.child.id(), name);
        assert_eq!(run.child.wait().unwrap().code(), Some(128 + number));
        assert!(!run.guests.iter().any(|pid| is_alive(*pid)), "no guest is left");
    }
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_guest_does_not_outlive_a_parent_that_is_killed() {
    let _core = one_core();
    let mut run = sleeping_guest();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    wait_until("the guest to end", Duration::from_secs(30), || {
        !run.guests.iter().any(|pid| is_alive(*pid))
    });
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_reader_that_goes_away_ends_the_run() {
    let _core = one_core();
    let line = format!("{{ {PROGRAM} run --guest -- yes; echo $? >&2; }} | head -n 2");
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"y\ny\n");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("141\n"));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn an_unusable_cache_is_named() {
    let ran: program::Ran = command(["run", "--guest", "--", "true"])
        .env("XDG_CACHE_HOME", "/dev/null/nowhere")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.status, Some(125));
    assert!(ran.stderr.contains("/dev/null/nowhere"), "{}", ran.stderr);
}

/// Also the measurement of a whole run: `GUEST_RUNS=20 cargo test … -- --ignored --nocapture runs_leave`.
#[test]
#[ignore = "needs QEMU and the guest packages"]
fn runs_leave_nothing_behind() {
    let runs: usize =
        std::env::var("GUEST_RUNS").map_or(1, |runs| runs.parse().expect("GUEST_RUNS is a number"));
    let _core = one_core();
    let temporary = tempfile::tempdir().unwrap();
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        let status = command(["run", "--guest", "--", "true"])
            .env("TMPDIR", temporary.path())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{runs} runs of `true`: {:.1} s at best, {:.1} median, {:.1} at worst",
        seconds[0],
        seconds[runs / 2],
        seconds[runs - 1]
    );
    assert_eq!(
        std::fs::read_dir(temporary.path()).unwrap().count(),
        0,
        "no temporary file is left"
    );
    assert!(run(["doctor"]).status == Some(0));
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

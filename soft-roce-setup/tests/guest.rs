//! Real guests. Each test boots at least one, so they are for machines that have QEMU and the packages:
//! `cargo test -p soft-roce-setup --test guest -- --ignored --test-threads 1`.

mod program;

use std::time::{Duration, Instant};

use program::{PROGRAM, command, in_guest, is_alive, run, sleeping_guest, turn, wait_until};
use rustix::process::{Pid, Signal, kill_process};

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn the_exit_status_is_passed_on() {
    let _turn = turn();
    assert_eq!(in_guest(&[], "exit 3").status, Some(3));
    assert_eq!(in_guest(&[], "kill -9 $$").status, Some(128 + 9));
    assert_eq!(in_guest(&[], "exit 0").status, Some(0));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn stdout_and_stderr_arrive_apart_and_byte_for_byte() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let path = folder.path().join("bytes");
    std::fs::write(&path, &bytes).unwrap();
    let line = format!("cat {0}; head -c 1000 {0} >&2", path.display());
    let output = command(["run", "--guest", "--", "sh", "-c", &line])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == bytes,
        "{} bytes of {} came out",
        output.stdout.len(),
        bytes.len()
    );
    assert!(
        output.stderr == bytes[..1000],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn output_comes_while_the_command_still_runs() {
    let _turn = turn();
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
fn there_is_an_rdma_device_and_a_dax_mount() {
    let _turn = turn();
    let ran = in_guest(
        &[],
        "rdma link show $SOFT_ROCE_DEVICE/1; findmnt -no OPTIONS $PMEM_DIR; ulimit -l; pwd
         ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 500 >/dev/null &
         sleep 2; ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 500 $SOFT_ROCE_ADDRESS && echo latency measured",
    );
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let here = std::env::current_dir().unwrap();
    for words in [
        "state ACTIVE",
        "dax=always",
        "unlimited",
        "latency measured",
        here.to_str().unwrap(),
    ] {
        assert!(
            ran.stdout.contains(words),
            "no {words:?} in:\n{}{}",
            ran.stdout,
            ran.stderr
        );
    }
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn only_the_output_folder_outlives_the_guest() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let (output, elsewhere) = (folder.path().join("out, put"), folder.path().join("elsewhere"));
    let line = format!(
        "echo kept >$OUTPUT_DIR/file; echo lost >{0}; cat {0}",
        elsewhere.display()
    );
    let ran = in_guest(&["--output", output.to_str().unwrap()], &line);
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (Some(0), "lost\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read_to_string(output.join("file")).unwrap(), "kept\n");
    assert!(!elsewhere.exists());
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_deadline_shows_the_console_and_is_124() {
    let _turn = turn();
    let started = Instant::now();
    let line = "echo last words >/dev/console; sleep 1000";
    let ran = in_guest(&["--deadline", "25"], line);
    assert_eq!(ran.status, Some(124), "{}", ran.stderr);
    assert!(ran.stderr.contains("last words"), "{}", ran.stderr);
    assert!(started.elapsed() < Duration::from_secs(65));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_boot_deadline_is_an_error_of_its_own() {
    let _turn = turn();
    let ran = in_guest(&["--boot-deadline", "1", "--accel", "tcg"], "true");
    assert_eq!(ran.status, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("TCG"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_kernel_that_panics_shows_its_console() {
    let _turn = turn();
    let ran = in_guest(
        &[],
        "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 100",
    );
    assert_eq!(ran.status, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("Kernel panic"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn what_the_command_leaves_running_does_not_hold_the_run() {
    let _turn = turn();
    let started = Instant::now();
    let ran = in_guest(&[], "sleep 1000 & echo done");
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (Some(0), "done\n"),
        "{}",
        ran.stderr
    );
    assert!(started.elapsed() < Duration::from_secs(120));
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_directory_that_a_guest_lacks_is_named() {
    let _turn = turn();
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
    let _turn = turn();
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
    let _turn = turn();
    let mut run = sleeping_guest();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    wait_until("the guest to end", Duration::from_secs(10), || {
        !run.guests.iter().any(|pid| is_alive(*pid))
    });
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn a_reader_that_goes_away_ends_the_run() {
    let _turn = turn();
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
fn two_nodes_reach_each_other_and_the_first_failure_counts() {
    let _turn = turn();
    let line =
        "busybox ping -c 2 -W 20 $NODE1_ADDRESS >/dev/null && busybox ping -c 2 -W 20 node2 >/dev/null &&
                echo node $NODE of $NODES pinged; printf half; [ $NODE = 1 ] || exit 7";
    let ran = in_guest(&["--nodes", "2"], line);
    assert_eq!(ran.status, Some(7), "{}", ran.stderr);
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "[1] half",
            "[1] node 1 of 2 pinged",
            "[2] half",
            "[2] node 2 of 2 pinged"
        ]
    );
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn two_nodes_speak_rdma_and_loss_can_be_put_between_them() {
    let _turn = turn();
    let line = "tc qdisc add dev eth0 root netem delay 1ms loss 1% || exit 9
                write() { timeout 150 ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 50 $1; }
                if [ $NODE = 1 ]; then write; exit; fi
                # Until the other listens.
                for attempt in $(seq 60); do write $NODE1_ADDRESS && exit; sleep 1; done; exit 8";
    let ran = in_guest(&["--nodes", "2"], line);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
}

/// A guest's kernel has rdma_rxe: there the native way can be tested on any machine.
#[test]
#[ignore = "needs QEMU and the guest packages"]
fn the_native_way_makes_a_device_and_takes_it_away() {
    let _turn = turn();
    let line = format!(
        "set -e; S={PROGRAM}; unset PMEM_DIR SOFT_ROCE_DEVICE
         $S up; $S down; $S down; test ! -e /sys/class/infiniband/rxe0; test ! -e /sys/class/net/dm0
         $S run -- sh -c 'test $SOFT_ROCE_DEVICE = rxe0 && test $SOFT_ROCE_ADDRESS = 10.77.0.1 && test -d $PMEM_DIR'
         test ! -e /sys/class/infiniband/rxe0
         $S up; $S up; test -e /sys/class/infiniband/rxe0
         $S doctor
         set +e; $S run --native -- sh -c 'exit 5'; test $? = 5 || exit 1
         $S run --native --deadline 1 -- sleep 100; test $? = 124 || exit 2
         $S run --native --nodes 2 -- true; test $? = 125 || exit 3
         $S up --netdev lo; test $? = 125 || exit 4"
    );
    let ran = in_guest(&[], &line);
    assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("on this machine's own kernel."),
        "{}",
        ran.stdout
    );
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
        std::env::var("GUEST_RUNS").map_or(2, |runs| runs.parse().expect("GUEST_RUNS is a number"));
    let _turn = turn();
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

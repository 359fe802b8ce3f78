//! Two processes: the other one is this test's own binary, started again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use transport::lane::Lane;
use transport::link::{LinkError, Transport};
use transport_tcp::Tcp;

use crate::end::{End, accept, soon};

/// Where the child dials; only the child has it.
const DIAL: &str = "TRANSPORT_TCP_TEST_DIAL";

/// Kills the child whatever happens to the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends every message back, until it is killed or the parent is gone.
#[test]
fn echo_as_the_child_of_another_test() {
    let Ok(address) = std::env::var(DIAL) else {
        return;
    };
    let mut end = End::start(Tcp::new().dial(&address, soon()).unwrap());
    loop {
        match end.poll() {
            Ok(true) => {}
            Ok(false) => std::thread::yield_now(),
            Err(_) => return,
        }
        for lane in Lane::ALL {
            while let Some((_, message)) = end.take(lane) {
                end.commit(lane, &message).unwrap();
            }
        }
        if end.push().is_err() {
            return;
        }
    }
}

fn with_child() -> (End, Killed) {
    let mut listener = Tcp::new().listen("127.0.0.1:0").unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::echo_as_the_child_of_another_test"])
        .env(DIAL, listener.address())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    (End::start(accept(&mut *listener)), child)
}

fn echo(end: &mut End, lane: Lane, message: &[u8]) {
    let deadline = soon();
    end.commit(lane, message).unwrap();
    end.push().unwrap();
    loop {
        end.poll().unwrap();
        if let Some((_, echoed)) = end.take(lane) {
            assert!(echoed == message);
            break;
        }
        assert!(Instant::now() < deadline, "no echo");
        std::thread::yield_now();
    }
}

#[test]
fn another_process_echoes_every_lane_over_many_laps() {
    let (mut end, _child) = with_child();
    for round in 0..3_000usize {
        let lane = Lane::ALL[round % 3];
        echo(&mut end, lane, &vec![round as u8; round * 37 % 1_000]);
    }
}

#[test]
fn a_killed_peer_is_noticed_at_once() {
    let (mut end, mut child) = with_child();
    echo(&mut end, Lane::Ordinary, b"alive");
    child.0.kill().unwrap();
    let killed = Instant::now();
    let error = loop {
        match end.poll() {
            Ok(_) => assert!(killed.elapsed() < Duration::from_secs(20), "not noticed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::Closed), "{error}");
}

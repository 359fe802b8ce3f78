//! What sessions that say nothing cost a node: memory, and the latency of the one that does.
//!
//! `AUDIT_SESSIONS` says how many there are at most: 30 every day. With more, both sides of the one that speaks spin, on a core
//! each, and figures come from many rounds: those of the README of this crate.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use tests::audit::PATIENCE;
use tests::numbers::size;
use tests::over::Over;
use tests::process::{OtherProcess, Role, allow_many_descriptors};
use transport::session::Timing;
use transport::{Address, Drive, Mailbox, MailboxOptions, Node, NodeBuilder, Wait};

/// Idle sessions send heartbeats and nothing else; few of them, so that they are not what is measured.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_secs(30),
    silence: Duration::from_secs(300),
    resume_window: Duration::from_secs(60),
    better_link: Duration::from_secs(60),
};

const DAILY: u64 = 30;

fn most() -> u64 {
    size("AUDIT_SESSIONS", DAILY)
}

/// One end of the session that speaks: the thread that speaks drives its node.
fn speaker(over: Over, name: &str) -> NodeBuilder {
    let wait = if most() > DAILY {
        Wait::Spin
    } else {
        Wait::default()
    };
    over.builder(name).timing(TIMING).drive(Drive::Caller).wait(wait)
}

/// Drives a node until something is the case.
fn drive_until(node: &Node, what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        node.poll();
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
    }
}

/// The other process: a node that answers, and as many that say nothing as it is told to have.
#[test]
fn the_peers_process() {
    let Some(role) = Role::taken() else { return };
    allow_many_descriptors();
    let hub = role.argument();
    let over = Over::of(hub);
    let active = speaker(over, "active").start().unwrap();
    let mut ping = active.mailbox("ping", MailboxOptions::default()).unwrap();
    let to_hub = active.connect(hub).unwrap();
    let pong = to_hub.address("pong").unwrap();
    let mut idle: Vec<Node> = Vec::new();
    while let Ok(message) = ping.recv() {
        match message.correlation {
            None => pong.send(message.payload).unwrap(),
            Some(sessions) => {
                while (idle.len() as u64) < sessions - 1 {
                    let node = over
                        .builder(&format!("idle {}", idle.len()))
                        .timing(TIMING)
                        .wait(Wait::Park)
                        .start()
                        .unwrap();
                    node.connect(hub).unwrap();
                    idle.push(node);
                }
            }
        }
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Round trips of 64 bytes, halved: the median of a round.
fn round(ping: &Address, pong: &mut Mailbox, trips: usize) -> Duration {
    let mut took: Vec<Duration> = (0..trips)
        .map(|_| {
            let start = Instant::now();
            ping.send(&[7; 64]).unwrap();
            let answer = pong.recv_timeout(PATIENCE).unwrap().expect("an answer in time");
            assert_eq!(answer.payload, [7; 64]);
            start.elapsed() / 2
        })
        .collect();
    took.sort();
    took[trips / 2]
}

/// Medians of rounds, sorted, once everybody has come to rest.
fn latencies(ping: &Address, pong: &mut Mailbox) -> Vec<Duration> {
    let (rounds, trips) = if most() > DAILY { (25, 5_000) } else { (3, 500) };
    round(ping, pong, trips);
    let mut medians: Vec<Duration> = (0..rounds).map(|_| round(ping, pong, trips)).collect();
    medians.sort();
    medians
}

fn sessions_that_say_nothing(over: Over) {
    let most = most();
    allow_many_descriptors();
    let hub = speaker(over, "hub")
        .max_peers(NonZeroUsize::new(most as usize + 1).unwrap())
        .listen(&over.free_address())
        .start()
        .unwrap();
    let mut pong = hub.mailbox("pong", MailboxOptions::default()).unwrap();
    let before = resident();
    let _other = OtherProcess::start("the_peers_process", &hub.addresses()[0]);
    drive_until(&hub, "the active peer is there", || hub.peers().len() == 1);
    let ping = hub.peers()[0].address("ping").unwrap();
    for sessions in [1, 10, 100, 1_000]
        .into_iter()
        .filter(|sessions| *sessions <= most)
    {
        ping.try_send_with(b"grow", Some(sessions)).unwrap();
        drive_until(&hub, "the sessions are there", || {
            hub.peers().len() as u64 == sessions
        });
        let medians = latencies(&ping, &mut pong);
        let median = medians[medians.len() / 2];
        let microseconds = |place: usize| medians[place].as_secs_f64() * 1e6;
        println!(
            "{over:?}, {sessions} sessions: {:.0} KiB each; one way {:.2} us (rounds from {:.2} to {:.2})",
            (resident() - before) as f64 / sessions as f64,
            microseconds(medians.len() / 2),
            microseconds(0),
            microseconds(medians.len() - 1),
        );
        assert!(
            median < Duration::from_millis(200),
            "{median:?} beside {sessions} sessions"
        );
    }
    assert_eq!(hub.dead_letters().count(), 0);
}

#[test]
fn idle_sessions_over_tcp_neither_stop_nor_crowd_the_one_that_speaks() {
    sessions_that_say_nothing(Over::Tcp);
}

#[test]
fn idle_sessions_over_shm_neither_stop_nor_crowd_the_one_that_speaks() {
    sessions_that_say_nothing(Over::Shm);
}

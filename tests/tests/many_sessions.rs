//! What sessions that say nothing cost a node: memory, and the latency of the one that does.
//!
//! `AUDIT_SESSIONS` says how many there are at most: 30 every day, 1,000 for the figures of the README of this crate.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::audit::eventually;
use tests::numbers::size;
use tests::over::Over;
use tests::process::{OtherProcess, Role};
use transport::session::Timing;
use transport::{Address, Mailbox, MailboxOptions, Node, Wait};

/// Idle sessions send heartbeats and nothing else; few of them, so that they are not what is measured.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_secs(2),
    silence: Duration::from_secs(60),
    resume_window: Duration::from_secs(10),
    better_link: Duration::from_secs(10),
};

/// Sessions over shared memory take several descriptors each.
fn allow_many_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).expect("as many descriptors as are allowed");
}

/// The other process: a node that answers, and as many that say nothing as it is told to have.
#[test]
fn the_peers_process() {
    let Some(role) = Role::taken() else { return };
    allow_many_descriptors();
    let hub = role.argument();
    let over = Over::of(hub);
    let builder = |name: &str| over.builder(name).timing(TIMING);
    let active = builder("active").start().unwrap();
    let mut ping = active.mailbox("ping", MailboxOptions::default()).unwrap();
    let to_hub = active.connect(hub).unwrap();
    let pong = to_hub.address("pong").unwrap();
    role.tell("ready");
    let mut idle: Vec<Node> = Vec::new();
    while let Ok(message) = ping.recv() {
        match message.correlation {
            None => pong.send(message.payload).unwrap(),
            Some(sessions) => {
                while (idle.len() as u64) < sessions - 1 {
                    let node = builder(&format!("idle {}", idle.len()))
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

/// Round trips of 64 bytes, halved: median and 99th percentile.
fn latency(ping: &Address, pong: &mut Mailbox, rounds: usize) -> (Duration, Duration) {
    let mut took: Vec<Duration> = (0..rounds + rounds / 10)
        .map(|_| {
            let start = Instant::now();
            ping.send(&[7; 64]).unwrap();
            let answer = pong.recv().unwrap();
            assert_eq!(answer.payload, [7; 64]);
            start.elapsed() / 2
        })
        .skip(rounds / 10)
        .collect();
    took.sort();
    (took[rounds / 2], took[rounds * 99 / 100])
}

fn sessions_that_say_nothing(over: Over) {
    let most = size("AUDIT_SESSIONS", 30);
    allow_many_descriptors();
    let hub = over
        .builder("hub")
        .timing(TIMING)
        .max_peers(NonZeroUsize::new(most as usize + 1).unwrap())
        .listen(&over.free_address())
        .start()
        .unwrap();
    let mut pong = hub.mailbox("pong", MailboxOptions::default()).unwrap();
    let before = resident();
    let other = OtherProcess::start("the_peers_process", &hub.addresses()[0]);
    assert_eq!(other.told(), "ready");
    eventually("the active peer is there", || hub.peers().len() == 1);
    let ping = hub.peers()[0].address("ping").unwrap();
    for sessions in [1, 10, 100, 1_000]
        .into_iter()
        .filter(|sessions| *sessions <= most)
    {
        ping.try_send_with(b"grow", Some(sessions)).unwrap();
        eventually("the sessions are there", || hub.peers().len() as u64 == sessions);
        let (median, high) = latency(&ping, &mut pong, 5_000);
        println!(
            "{over:?}, {sessions} sessions: {:.0} KiB each; one way {:.2} us (p99 {:.2})",
            (resident() - before) as f64 / sessions as f64,
            median.as_secs_f64() * 1e6,
            high.as_secs_f64() * 1e6,
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

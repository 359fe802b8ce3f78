//! What small messages pay for messages of 64 MiB that flow to the same node: a chunk, not a message.
//!
//! `cargo test --release -p tests --test small_beside_large -- --nocapture` prints the round trips of 64 bytes, alone and
//! beside the flow, and how long a chunk takes. `LARGE_ROUNDS` says how many messages of 64 MiB flow (default 3).

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, SetWhenDropped};
use transport::link::Transport;
use transport::{Address, Mailbox, MailboxOptions, Node};

const SECRET: &[u8] = b"small messages beside large ones";
const LARGE: usize = 64 << 20;
const CHUNK: usize = 64 << 10;

/// One message there and its answer back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RoundTrip {
    whole: Duration,
    /// Until the call that sends returned.
    in_call: Duration,
    /// Until the other side took the message.
    there: Duration,
}

/// Sorted.
struct RoundTrips(Vec<RoundTrip>);

impl RoundTrips {
    fn of(
        to: &Address,
        answers: &mut Mailbox,
        taken: &Mutex<Instant>,
        mut go_on: impl FnMut(usize) -> bool,
    ) -> RoundTrips {
        let mut trips = Vec::new();
        while go_on(trips.len()) {
            let start = Instant::now();
            to.send(&[7; 64]).expect("sent");
            let in_call = start.elapsed();
            answers.recv_timeout(PATIENCE).expect("open").expect("an answer");
            trips.push(RoundTrip {
                whole: start.elapsed(),
                in_call,
                there: taken.lock().unwrap().duration_since(start),
            });
        }
        trips.sort();
        RoundTrips(trips)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100].whole
    }

    fn slowest(&self) -> RoundTrip {
        self.0[self.0.len() - 1]
    }
}

fn small_messages_pass(
    scheme: &str,
    address: &str,
    here: impl Transport + 'static,
    there: impl Transport + 'static,
) {
    let rounds = std::env::var("LARGE_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    let b = Node::builder("b")
        .secret(SECRET)
        .transport(there)
        .listen(address)
        .start()
        .unwrap();
    let a = Node::builder("a").secret(SECRET).transport(here).start().unwrap();
    let options = MailboxOptions {
        capacity: 2,
        max_message: LARGE as u32,
        ..MailboxOptions::default()
    };
    let mut large = b.mailbox("large", options).unwrap();
    let mut echo = b.mailbox("echo", MailboxOptions::default()).unwrap();
    let mut answers = a.mailbox("answers", MailboxOptions::default()).unwrap();
    let peer = a.connect(&b.addresses()[0]).unwrap();
    let to_echo = peer.address("echo").unwrap();
    let to_large = peer.address("large").unwrap();
    let done = AtomicBool::new(false);
    let taken = Mutex::new(Instant::now());
    let (idle, beside, took) = thread::scope(|scope| {
        scope.spawn(|| {
            let mut back: Option<Address> = None;
            while !done.load(Ordering::Relaxed) {
                let Some(message) = echo.recv_timeout(Duration::from_millis(100)).unwrap() else {
                    continue;
                };
                *taken.lock().unwrap() = Instant::now();
                let peer = message.peer().unwrap();
                back.get_or_insert_with(|| peer.address("answers").unwrap())
                    .send(&[8; 64])
                    .unwrap();
            }
        });
        let stops = SetWhenDropped(&done);
        let idle = RoundTrips::of(&to_echo, &mut answers, &taken, |count| count < 2_000);
        let flowing = scope.spawn(|| {
            let message = vec![1; LARGE];
            let start = Instant::now();
            for _ in 0..rounds {
                to_large.send_timeout(&message, None, PATIENCE).unwrap();
            }
            start.elapsed()
        });
        let receiver = scope.spawn(|| {
            for _ in 0..rounds {
                let message = large.recv_timeout(PATIENCE).unwrap().expect("in time");
                assert_eq!(message.payload.len(), LARGE);
            }
        });
        let beside = RoundTrips::of(&to_echo, &mut answers, &taken, |_| !flowing.is_finished());
        receiver.join().unwrap();
        drop(stops);
        (idle, beside, flowing.join().unwrap())
    });
    let message = took / rounds;
    println!(
        "{scheme}: 64 bytes there and back, p50 {:?} p99 {:?} alone; beside {rounds} messages of 64 MiB p50 {:?} p99 {:?} \
         max {:?} of {} ({:?} of it in the call that sends, {:?} until taken); such a message takes {message:?}, a chunk of it {:?}",
        idle.at(50),
        idle.at(99),
        beside.at(50),
        beside.at(99),
        beside.slowest().whole,
        beside.0.len(),
        beside.slowest().in_call,
        beside.slowest().there,
        message * CHUNK as u32 / LARGE as u32,
    );
    assert!(
        beside.at(50) < message / 10,
        "small messages waited {:?} beside a message that takes {message:?}",
        beside.at(50)
    );
}

#[test]
fn over_tcp() {
    let tcp = transport_tcp::Tcp::new;
    small_messages_pass("tcp", "tcp://127.0.0.1:0", tcp(), tcp());
}

#[test]
fn over_shared_memory() {
    let shm = transport_rdma::Shm::new;
    small_messages_pass("shm", "shm://@", shm(), shm());
}

#[test]
#[ignore = "needs an RDMA device"]
#[cfg(feature = "verbs")]
fn over_rdma() {
    let rdma = || transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()).unwrap();
    let host = std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
    small_messages_pass("rdma", &format!("rdma://{host}:0"), rdma(), rdma());
}

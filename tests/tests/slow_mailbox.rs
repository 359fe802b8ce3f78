//! One slow mailbox among 1,000 on a link: what the other 999 notice of it.
//!
//! Ignored, because it measures: `cargo test --release -p tests --test slow_mailbox -- --ignored --nocapture`. That a full
//! mailbox does not hold up its neighbours is a case of the conformance suite.
//!
//! The bar is 1.2 on a quiet machine; what is asserted is what a busy one holds too. A neighbour that waited behind the slow
//! mailbox would wait for milliseconds, and miss that a hundredfold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use transport::{Address, Mailbox, MailboxOptions, Node, SendError};
use transport_tcp::Tcp;

const MAILBOXES: usize = 1_000;
const ROUNDS: usize = 31;
const MESSAGES: usize = 5_000;

/// The time from sending to taking, 99th percentile, over messages to the neighbours one after another.
fn p99(addresses: &[Address], mailboxes: &mut [Mailbox]) -> Duration {
    let mut took: Vec<Duration> = (0..MESSAGES)
        .map(|message| {
            let which = message % addresses.len();
            let start = Instant::now();
            addresses[which].send(&[7; 64]).unwrap();
            mailboxes[which].recv().unwrap();
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[MESSAGES * 99 / 100]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What `measure` says while one message is taken each 5 ms of the slow mailbox, whose sender always has another that waits
/// for the room.
fn beside_a_slow_one<T>(to_slow: &Address, slow: &mut Mailbox, measure: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = to_slow.send_timeout(&[9; 64], None, Duration::from_millis(50));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let _ = slow.try_recv();
            }
        });
        // Until it is full, and stays so.
        while !matches!(to_slow.try_send(&[9; 64]), Err(SendError::MailboxFull { .. })) {}
        let measured = measure();
        stop.store(true, Ordering::Relaxed);
        measured
    })
}

#[test]
#[ignore = "measures"]
fn the_neighbours_of_a_slow_mailbox_are_as_fast_as_without_it() {
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"a slow mailbox, a shared secret")
            .transport(Tcp::new())
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start().unwrap();
    let a = node("a").start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let mut mailboxes: Vec<Mailbox> = (0..MAILBOXES)
        .map(|number| b.mailbox(&number.to_string(), MailboxOptions::default()).unwrap())
        .collect();
    let addresses: Vec<Address> = (0..MAILBOXES)
        .map(|number| to_b.address(&number.to_string()).unwrap())
        .collect();
    let (slow, neighbours) = mailboxes.split_first_mut().unwrap();
    let to_slow = &addresses[0];
    let mut p99s = [Vec::new(), Vec::new()];
    let ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let mut pair = [Duration::ZERO; 2];
            // Whichever comes second finds the machine as the first has left it: they take turns in that too.
            for which in [round % 2, 1 - round % 2] {
                pair[which] = match which {
                    0 => p99(&addresses[1..], neighbours),
                    _ => beside_a_slow_one(to_slow, slow, || p99(&addresses[1..], neighbours)),
                };
                p99s[which].push(pair[which].as_secs_f64() * 1e6);
            }
            pair[1].as_secs_f64() / pair[0].as_secs_f64()
        })
        .collect();
    let [without, with] = p99s.map(median);
    println!("p99 without {without:.1} us, with {with:.1} us, medians of {ROUNDS} rounds each");
    let ratio = median(ratios);
    println!("p99 with a slow mailbox / without: {ratio:.2}, median of {ROUNDS} pairs of rounds");
    assert!(ratio < 4.0, "{ratio}");
}

//! One slow mailbox among 1,000 on a link: what the other 999 notice of it.
//!
//! Ignored, because it measures: `cargo test --release -p tests --test slow_mailbox -- --ignored --nocapture`. That a full
//! mailbox does not hold up its neighbours is a case of the conformance suite.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use transport::{Address, Mailbox, MailboxOptions, Node};
use transport_tcp::Tcp;

const MAILBOXES: usize = 1_000;
const ROUNDS: usize = 15;
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
    let ratios = (0..ROUNDS).map(|_| {
        let without = p99(&addresses[1..], neighbours);
        let stop = AtomicBool::new(false);
        let with = std::thread::scope(|scope| {
            // One message is taken each 5 ms; its sender always has another that waits for the room.
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
            std::thread::sleep(Duration::from_millis(50));
            let with = p99(&addresses[1..], neighbours);
            stop.store(true, Ordering::Relaxed);
            with
        });
        println!("p99 without {without:?}, with {with:?}");
        with.as_secs_f64() / without.as_secs_f64()
    });
    let ratio = median(ratios.collect());
    println!("p99 with a slow mailbox / without: {ratio:.2}, median of {ROUNDS} pairs of rounds");
    assert!(ratio < 2.0, "{ratio}");
}

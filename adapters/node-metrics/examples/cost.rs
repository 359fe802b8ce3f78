//! What it costs to be observed: throughput and round trips between two nodes with and without an endpoint that is scraped
//! ten times a second, taking turns. `cargo run --release -p node-metrics --example cost`

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node_metrics::Endpoint;
use transport::{Address, Mailbox, MailboxOptions, Node};
use transport_tcp::Tcp;

const ROUNDS: usize = 15;
const MESSAGES: u64 = 1_000_000;
const ROUND_TRIPS: usize = 10_000;

struct Pair {
    to_b: Address,
    to_a: Address,
    in_a: Mailbox,
    in_b: Mailbox,
    a: Node,
    b: Node,
}

fn pair() -> Result<Pair, Box<dyn std::error::Error>> {
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"what being observed costs")
            .transport(Tcp::new())
    };
    let (a, b) = (node("a").start()?, node("b").listen("tcp://127.0.0.1:0").start()?);
    let in_b = b.mailbox("inbox", MailboxOptions::default())?;
    let in_a = a.mailbox("inbox", MailboxOptions::default())?;
    let to_b = a.connect(&b.addresses()[0])?.address("inbox")?;
    let to_a = loop {
        if let Some(peer) = b.peers().first() {
            break peer.address("inbox")?;
        }
    };
    Ok(Pair {
        to_b,
        to_a,
        in_a,
        in_b,
        a,
        b,
    })
}

/// Messages a second, and the median of a round trip.
fn round(pair: &mut Pair) -> (f64, Duration) {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let to_b = &pair.to_b;
        scope.spawn(move || {
            let mut batch = to_b.batch();
            for _ in 0..MESSAGES {
                batch.send(&[7; 64]).expect("b lives");
            }
        });
        for _ in 0..MESSAGES {
            pair.in_b.recv().expect("b lives");
        }
    });
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let mut trips: Vec<Duration> = (0..ROUND_TRIPS)
        .map(|_| {
            let start = Instant::now();
            pair.to_b.send(&[7; 64]).expect("b lives");
            pair.in_b.recv().expect("b lives");
            pair.to_a.send(&[7; 64]).expect("a lives");
            pair.in_a.recv().expect("a lives");
            start.elapsed()
        })
        .collect();
    trips.sort_unstable();
    (rate, trips[ROUND_TRIPS / 2])
}

/// A round while both nodes are observed.
fn observed(pair: &mut Pair) -> Result<(f64, Duration), Box<dyn std::error::Error>> {
    let endpoints = [
        Endpoint::open(&pair.a, "127.0.0.1:0")?,
        Endpoint::open(&pair.b, "127.0.0.1:0")?,
    ];
    let stop = Arc::new(AtomicBool::new(false));
    let addresses = endpoints.each_ref().map(Endpoint::address);
    let scraping = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                for address in addresses {
                    let mut stream = TcpStream::connect(address).expect("the endpoint listens");
                    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").expect("the endpoint reads");
                    stream
                        .read_to_string(&mut String::new())
                        .expect("the endpoint answers");
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let figures = round(pair);
    stop.store(true, Ordering::Relaxed);
    scraping.join().expect("the scraper ends");
    Ok(figures)
}

fn median<T: PartialOrd + Copy>(mut of: Vec<T>) -> T {
    of.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    of[of.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut pair = pair()?;
    round(&mut pair);
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        off.push(round(&mut pair));
        on.push(observed(&mut pair)?);
    }
    let rates = |rounds: &[(f64, Duration)]| median(rounds.iter().map(|round| round.0).collect());
    let trips = |rounds: &[(f64, Duration)]| median(rounds.iter().map(|round| round.1).collect());
    let ratios = |of: &dyn Fn(usize) -> f64| median((0..ROUNDS).map(of).collect());
    println!(
        "messages/s  off {:.2} M  on {:.2} M  on/off, median of {ROUNDS} pairs {:.3}",
        rates(&off) / 1e6,
        rates(&on) / 1e6,
        ratios(&|round| on[round].0 / off[round].0)
    );
    println!(
        "round trip  off {:.2?}  on {:.2?}  on/off, median of {ROUNDS} pairs {:.3}",
        trips(&off),
        trips(&on),
        ratios(&|round| on[round].1.as_secs_f64() / off[round].1.as_secs_f64())
    );
    Ok(())
}

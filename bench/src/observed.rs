//! What it costs to be observed: throughput and round trips between two nodes, with and without metrics endpoints that are
//! scraped, in turns.
//!
//! Two threads, each of which drives its node and takes its messages from its mailbox, as an actor does. The endpoints and the
//! scraper have threads of their own and take their time from the same cores.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use node_metrics::Endpoint;
use transport::{Address, Drive, Mailbox, MailboxOptions, Node};
use transport_tcp::Tcp;

use crate::error::{Error, doing, failed};
use crate::machine::Watch;

/// Bytes of a message; the first says what the far side does with it.
const SIZE: usize = 64;
const COUNTED: [u8; SIZE] = [0; SIZE];
const ANSWERED: [u8; SIZE] = [1; SIZE];
const LAST: [u8; SIZE] = [2; SIZE];
/// Messages between two looks at the clock.
const TURN: u64 = 1_000;
const FAR: &str = "on the far side";

/// One side's figures: messages a second, and the median round trip in nanoseconds.
type Round = [f64; 2];

struct Near {
    node: Node,
    to_far: Address,
    inbox: Mailbox,
}

/// Compares rounds with and without, `pairs` times, each of its figures taken for `time`, and scraped every `scraped`.
pub(crate) fn run(pairs: usize, time: Duration, scraped: Duration) -> Result<(), Error> {
    const STARTING: &str = "starting two nodes";
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"what being observed costs")
            .drive(Drive::Caller)
            .transport(Tcp::new())
    };
    let listening = node("far").listen("tcp://127.0.0.1:0");
    let far = Arc::new(listening.start().map_err(failed(STARTING))?);
    let near = node("near").start().map_err(failed(STARTING))?;
    let inbox = near
        .mailbox("inbox", MailboxOptions::default())
        .map_err(failed(STARTING))?;
    let echoing = std::thread::spawn({
        let far = far.clone();
        move || echo(&far)
    });
    let peer = near.connect(&far.addresses()[0]).map_err(failed(STARTING))?;
    let mut near = Near {
        to_far: peer.address("inbox").map_err(failed(STARTING))?,
        inbox,
        node: near,
    };
    let watch = Watch::begin();
    near.round(time)?;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Whichever was first last time is second now, so that what drifts favours neither.
        for observed in [pair % 2 == 1, pair % 2 == 0] {
            if observed {
                let scraping = Scraping::start([&near.node, &far], scraped)?;
                on.push(near.round(time)?);
                scraping.stop()?;
            } else {
                off.push(near.round(time)?);
            }
        }
    }
    near.exchange(&LAST)?;
    echoing.join().map_err(|_| failed(FAR)("it panicked"))??;
    crate::report::print(&format!("{}\n{}", watch.describe(), report(&off, &on)))
}

/// The far side: takes messages, and answers those that are not only counted.
fn echo(node: &Node) -> Result<(), Error> {
    let mut inbox = node
        .mailbox("inbox", MailboxOptions::default())
        .map_err(failed(FAR))?;
    let mut to_near: Option<Address> = None;
    loop {
        let message = inbox.recv().map_err(failed(FAR))?;
        let kind = message.payload.first().copied();
        if kind == Some(COUNTED[0]) {
            continue;
        }
        let peer = message.peer();
        let to_near = match &to_near {
            Some(address) => address,
            None => {
                let peer = peer.ok_or_else(|| failed(FAR)("the session is over"))?;
                to_near.insert(peer.address("inbox").map_err(failed(FAR))?)
            }
        };
        to_near.send(&ANSWERED).map_err(failed(FAR))?;
        if kind == Some(LAST[0]) {
            return Ok(());
        }
    }
}

impl Near {
    fn round(&mut self, time: Duration) -> Result<Round, Error> {
        Ok([self.throughput(time)?, self.round_trips(time)?])
    }

    fn throughput(&mut self, time: Duration) -> Result<f64, Error> {
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
            let mut batch = self.to_far.batch();
            for _ in 0..TURN {
                batch.send(&COUNTED).map_err(failed("sending"))?;
            }
            sent += TURN;
        }
        // Behind all of them.
        self.exchange(&ANSWERED)?;
        Ok(sent as f64 / start.elapsed().as_secs_f64())
    }

    fn round_trips(&mut self, time: Duration) -> Result<f64, Error> {
        const LONGEST: u64 = 60_000_000_000;
        let trips = Histogram::<u64>::new_with_max(LONGEST, 3);
        let mut trips = trips.map_err(failed("making a histogram"))?;
        let start = Instant::now();
        while start.elapsed() < time {
            let began = Instant::now();
            self.exchange(&ANSWERED)?;
            trips.saturating_record(began.elapsed().as_nanos() as u64);
        }
        Ok(trips.value_at_quantile(0.5) as f64)
    }

    fn exchange(&mut self, message: &[u8; SIZE]) -> Result<(), Error> {
        self.to_far.send(message).map_err(failed("sending"))?;
        let answer = self
            .inbox
            .recv_timeout(Duration::from_secs(30))
            .map_err(failed("receiving"))?;
        answer.map(drop).ok_or(Error::Stalled(Duration::from_secs(30)))
    }
}

/// Both nodes are observed as long as it lives.
struct Scraping {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Error>>,
    _endpoints: [Endpoint; 2],
}

impl Scraping {
    fn start(nodes: [&Node; 2], every: Duration) -> Result<Scraping, Error> {
        let [near, far] = nodes.map(|node| Endpoint::open(node, "127.0.0.1:0"));
        let endpoints = [
            near.map_err(failed("opening an endpoint"))?,
            far.map_err(failed("opening an endpoint"))?,
        ];
        let addresses = endpoints.each_ref().map(Endpoint::address);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    addresses.iter().try_for_each(scrape)?;
                    std::thread::park_timeout(every);
                }
                Ok(())
            }
        });
        Ok(Scraping {
            stop,
            thread,
            _endpoints: endpoints,
        })
    }

    fn stop(self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        match self.thread.join() {
            Ok(scraped) => scraped,
            Err(_) => Err(failed("scraping")("the scraper panicked")),
        }
    }
}

fn scrape(address: &SocketAddr) -> Result<(), Error> {
    let asking = || doing(format!("asking http://{address}/metrics"));
    let mut stream = TcpStream::connect(address).map_err(asking())?;
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").map_err(asking())?;
    stream.read_to_string(&mut String::new()).map_err(asking())?;
    Ok(())
}

fn report(off: &[Round], on: &[Round]) -> String {
    let mut report = format!(
        "{:<22}{:>12}{:>12}{:>9}   the middle half of {} pairs\n",
        "",
        "off",
        "on",
        "on/off",
        off.len()
    );
    let columns = [("messages/s, millions", 1e-6), ("round trip p50, us", 1e-3)];
    for (figure, (name, unit)) in columns.into_iter().enumerate() {
        let of = |rounds: &[Round]| sorted(rounds.iter().map(|round| round[figure]));
        let ratios = sorted(off.iter().zip(on).map(|(off, on)| on[figure] / off[figure]));
        report += &format!(
            "{name:<22}{:>12.3}{:>12.3}{:>9.3}   {:.3} to {:.3}\n",
            quantile(&of(off), 0.5) * unit,
            quantile(&of(on), 0.5) * unit,
            quantile(&ratios, 0.5),
            quantile(&ratios, 0.25),
            quantile(&ratios, 0.75),
        );
    }
    report
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Of figures that are sorted and at least one.
fn quantile(figures: &[f64], at: f64) -> f64 {
    figures[((figures.len() - 1) as f64 * at).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_shows_medians_and_the_ratios_of_pairs() {
        let off = [[2e6, 10_000.0], [4e6, 20_000.0], [3e6, 30_000.0]];
        let on = [[1e6, 20_000.0], [4e6, 20_000.0], [6e6, 30_000.0]];
        let report = report(&off, &on);
        let words: Vec<Vec<&str>> = report
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[1][2..], ["3.000", "4.000", "1.000", "1.000", "to", "2.000"]);
        assert_eq!(words[2][4..7], ["20.000", "20.000", "1.000"]);
    }
}

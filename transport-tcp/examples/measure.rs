//! What the link costs beside a bare socket: two processes, busy-polled, interleaved in one run.
//!
//! ```text
//! cargo run --release -p transport-tcp --example measure
//! ```
//!
//! Prints the median over the rounds of the one-way p50 (round trip / 2) of 64-byte messages over a bare socket and
//! over the link, their ratio, and how many 64-byte messages a second one sender gets through.

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use transport::frame::{Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{Link, LinkMemory, Push, ReceiveLanes, SendLanes, SendMemory, Transport, Wire};
use transport_tcp::Tcp;

const SIZE: usize = 64;
const ROUNDS: usize = 11;
const PINGS: usize = 20_000;
const FLOOD: u64 = 5_000_000;
const FLOODS: usize = 5;
/// Messages that are committed before each push.
const BATCH: u64 = 256;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [bare, link] => answer(bare, link),
        _ => measure(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A link with its rings.
struct End {
    send: SendLanes,
    receive: ReceiveLanes,
    link: Link,
    /// What was acknowledged last.
    acknowledged: u64,
}

impl End {
    fn start(mut wire: Box<dyn Wire>) -> Outcome<End> {
        let sizes = LaneSizes::default();
        let receive = wire.receive_memory(&sizes)?;
        let offer = wire.offer(&receive)?;
        wire.send(&offer, soon())?;
        let offer = wire.receive(soon())?;
        let SendMemory { rings, .. } = wire.send_memory(&sizes, &offer)?;
        let memory = LinkMemory {
            send: rings.clone(),
            receive: receive.clone(),
        };
        let link = wire.link(&memory, &offer, [0; LANES])?;
        Ok(End {
            send: SendLanes::new(SendMemory { rings, cells: None }, Integrity::None),
            receive: ReceiveLanes::new(receive, Integrity::None, link.arrival),
            link,
            acknowledged: 0,
        })
    }

    /// Commits one message, if there is room.
    #[inline]
    fn commit(&self, stamp: u64) -> bool {
        let Ok(mut claim) = self.send.ring(Lane::Ordinary).claim(SIZE) else {
            return false;
        };
        claim.body()[..8].copy_from_slice(&stamp.to_le_bytes());
        claim.commit(Kind::Message, 0, 0, 0);
        true
    }

    #[inline]
    fn push(&mut self) -> Outcome<Push> {
        Ok(self.link.sender.push(&self.send)?)
    }

    /// Polls once and takes every message; returns how many.
    #[inline]
    fn take(&mut self, mut each: impl FnMut(u64)) -> Outcome<u64> {
        if !self.link.receiver.poll(&mut self.receive)? {
            std::hint::spin_loop();
            return Ok(0);
        }
        let at = Lane::Ordinary.index();
        self.send.rings[at].release(self.receive.credit[at])?;
        let ring = &mut self.receive.rings[at];
        let mut taken = 0;
        while let Some(frame) = ring.peek()? {
            let size = frame.header.size();
            if frame.header.kind == Kind::Message {
                each(u64::from_le_bytes(
                    *frame.body.first_chunk().ok_or("a short message")?,
                ));
                taken += 1;
            }
            ring.consume(size);
        }
        // As a session does: a quarter of the ring at a time, unless something goes back anyhow.
        let consumed = ring.consumed();
        if consumed - self.acknowledged >= ring.capacity() / 4 {
            self.acknowledged = consumed;
            self.send.acknowledge[at].store(consumed, Ordering::Release);
            self.link.sender.push(&self.send)?;
        }
        Ok(taken)
    }

    fn ping(&mut self) -> Outcome<()> {
        self.commit(0);
        self.push()?;
        while self.take(|_| ())? == 0 {}
        Ok(())
    }

    fn pong(&mut self) -> Outcome<()> {
        while self.take(|_| ())? == 0 {}
        self.commit(0);
        self.push()?;
        Ok(())
    }
}

/// Reads one bare message, spinning.
fn read_message(socket: &mut TcpStream, message: &mut [u8; SIZE]) -> Outcome<()> {
    let mut got = 0;
    while got < SIZE {
        match socket.read(&mut message[got..]) {
            Ok(0) => return Err("the peer closed the socket".into()),
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The other process.
fn answer(bare: &str, link: &str) -> Outcome<()> {
    let mut socket = TcpStream::connect(bare)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let mut end = End::start(Tcp::new().dial(link, soon())?)?;
    let mut message = [0; SIZE];
    for _ in 0..ROUNDS {
        for _ in 0..PINGS {
            read_message(&mut socket, &mut message)?;
            socket.write_all(&message)?;
        }
        for _ in 0..PINGS {
            end.pong()?;
        }
    }
    for _ in 0..FLOODS {
        let mut next = 0;
        let mut ordered = true;
        while next < FLOOD {
            end.take(|stamp| {
                ordered &= stamp == next;
                next += 1;
            })?;
        }
        if !ordered {
            return Err("messages came out of order".into());
        }
        end.commit(0);
        end.push()?;
    }
    Ok(())
}

fn measure() -> Outcome<()> {
    let awake = File::options()
        .write(true)
        .open("/dev/cpu_dma_latency")
        .and_then(|mut file| file.write_all(&0u32.to_ne_bytes()).map(|()| file));
    println!("cores kept awake: {}", if awake.is_ok() { "yes" } else { "no" });

    let bare = TcpListener::bind("127.0.0.1:0")?;
    let mut listener = Tcp::new().listen("127.0.0.1:0")?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([bare.local_addr()?.to_string(), listener.address()])
        .spawn()?;
    let outcome = run(&bare, &mut *listener);
    if outcome.is_err() {
        child.kill()?;
    }
    child.wait()?;
    outcome
}

fn run(bare: &TcpListener, listener: &mut dyn transport::link::Listener) -> Outcome<()> {
    let (mut socket, _) = bare.accept()?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let wire = loop {
        if let Some(wire) = listener.accept()? {
            break wire;
        }
    };
    let mut end = End::start(wire)?;

    let mut message = [0; SIZE];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bare = p50(|| {
            socket.write_all(&message)?;
            read_message(&mut socket, &mut message)
        })?;
        let link = p50(|| end.ping())?;
        rounds.push((bare, link));
    }
    let bare = median(rounds.iter().map(|(bare, _)| *bare));
    let link = median(rounds.iter().map(|(_, link)| *link));
    let ratio = median(rounds.iter().map(|(bare, link)| link / bare));
    println!("bare socket, 64 B, one way p50   {bare:8.3} us");
    println!("link, 64 B, one way p50          {link:8.3} us   ratio {ratio:.3} (median of {ROUNDS} rounds)");

    let mut rates = Vec::new();
    for _ in 0..FLOODS {
        let began = Instant::now();
        let mut sent = 0;
        let mut answered = 0;
        while answered == 0 {
            let batch = BATCH.min(FLOOD - sent);
            let before = sent;
            while sent < before + batch && end.commit(sent) {
                sent += 1;
            }
            if sent > before {
                end.push()?;
            }
            if sent == before || sent == FLOOD {
                answered = end.take(|_| ())?;
                end.push()?;
            }
        }
        rates.push(FLOOD as f64 / began.elapsed().as_secs_f64());
    }
    println!(
        "link, 64 B, one sender           {:8.2} M messages/s (median of {FLOODS} rounds, {BATCH} a push)",
        median(rates.into_iter()) / 1e6
    );
    Ok(())
}

/// The median of one way, in microseconds.
fn p50(mut round_trip: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        round_trip()?;
        times.push(began.elapsed().as_secs_f64() * 1e6 / 2.0);
    }
    Ok(median(times.into_iter()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! One-way latency of a link alone, without nodes and mailboxes, between two processes that spin, each round beside its
//! floor: a bare cache-line ping-pong for `shm`, `ib_write_lat` (same bytes, and as many as the frame has) for `rdma`.
//!
//! ```text
//! cargo run --release -p transport-rdma --example latency -- shm
//! soft-roce-setup run -- target/release/examples/latency rdma      (built with --features verbs)
//! ```
//! Options after the transport: payload bytes (64), round trips a round (20000), rounds (7).

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use transport::frame::{self, Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{
    LaneMemory, Link, LinkError, LinkMemory, ReceiveLanes, SendLanes, SendMemory, Transport, Wire,
};
use transport_rdma::{Rdma, RdmaOptions, Shm};

type Failure = Box<dyn std::error::Error>;

/// A message of this many bytes asks for as many bare round trips as it says, or to leave the CPU to others.
const FLOOR: usize = 8;

struct End {
    send: SendLanes,
    receive: ReceiveLanes,
    link: Link,
    shared: bool,
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn memory(wire: &mut dyn Wire, sizes: &LaneSizes) -> Result<(LaneMemory, SendMemory, Vec<u8>), LinkError> {
    let receive = wire.receive_memory(sizes)?;
    let offer = wire.offer(&receive)?;
    wire.send(&offer, deadline())?;
    let offer = wire.receive(deadline())?;
    let send = wire.send_memory(sizes, &offer)?;
    Ok((receive, send, offer))
}

impl End {
    fn new(mut wire: Box<dyn Wire>, integrity: Integrity) -> Result<End, LinkError> {
        let (receive, send, offer) = memory(&mut *wire, &LaneSizes::default())?;
        let rings = LinkMemory {
            send: send.rings.clone(),
            receive: receive.clone(),
        };
        let link = wire.link(&rings, &offer, [0; LANES])?;
        Ok(End {
            shared: send.cells.is_some(),
            send: SendLanes::new(send, integrity.clone()),
            receive: ReceiveLanes::new(receive, integrity, link.arrival),
            link,
        })
    }

    #[inline]
    fn say(&mut self, body: &[u8]) -> Result<(), Failure> {
        let mut claim = self.send.ring(Lane::Ordinary).claim(body.len())?;
        claim.body().copy_from_slice(body);
        claim.commit(Kind::Message, 0, 0, 1);
        match &self.link.doorbell {
            Some(doorbell) => doorbell.ring(),
            None => drop(self.link.sender.push(&self.send)?),
        }
        Ok(())
    }

    /// Spins until a message is there, copies it out, and acknowledges by quarters of the ring.
    #[inline]
    fn hear(&mut self, body: &mut [u8]) -> Result<usize, Failure> {
        loop {
            if self.link.receiver.poll(&mut self.receive)? {
                let ring = self.receive.ring(Lane::Ordinary);
                if let Some(frame) = ring.peek()? {
                    let (size, len, kind) = (frame.header.size(), frame.body.len(), frame.header.kind);
                    body[..len].copy_from_slice(frame.body);
                    ring.consume(size);
                    let consumed = ring.consumed();
                    if consumed - self.send.acknowledged(Lane::Ordinary) >= ring.capacity() / 4 {
                        self.send.acknowledge[Lane::Ordinary.index()].store(consumed, Ordering::Release);
                        self.link.sender.push(&self.send)?;
                    }
                    if !self.shared {
                        let credit = self.receive.credit[Lane::Ordinary.index()];
                        self.send.ring(Lane::Ordinary).release(credit)?;
                    }
                    if kind == Kind::Message {
                        return Ok(len);
                    }
                }
            }
            std::hint::spin_loop();
        }
    }
}

impl End {
    /// Sleeps until something arrives.
    fn sleep(&mut self) -> Result<(), LinkError> {
        while !self.link.receiver.poll(&mut self.receive)? {
            if self.link.receiver.arm(&self.receive)? {
                let descriptors = self.link.receiver.descriptors();
                let mut set: Vec<_> = descriptors
                    .iter()
                    .map(|fd| PollFd::new(fd, PollFlags::IN))
                    .collect();
                let _ = poll(&mut set, None);
            }
        }
        Ok(())
    }
}

/// Two cache lines, one written by each process: the least that a message between them can cost.
struct Bare {
    out: transport::memory::RingMemory,
    back: transport::memory::RingMemory,
}

impl Bare {
    fn new(mut wire: Box<dyn Wire>) -> Result<Bare, LinkError> {
        let sizes = LaneSizes {
            control: 4096,
            ordinary: 4096,
            large: 4096,
        };
        let (receive, send, _) = memory(&mut *wire, &sizes)?;
        Ok(Bare {
            out: send.rings[0].clone(),
            back: receive[0].clone(),
        })
    }

    fn say(&self, number: u64) {
        self.out.word(0).store(number, Ordering::Release);
    }

    fn hear(&self, number: u64) {
        while self.back.word(0).load(Ordering::Acquire) != number {
            std::hint::spin_loop();
        }
    }
}

fn open(scheme: &str) -> Result<Box<dyn Transport>, Failure> {
    Ok(match scheme {
        "shm" => Box::new(Shm::new()),
        "rdma" => Box::new(Rdma::new(RdmaOptions::default())?),
        other => return Err(format!("no transport {other:?}: shm or rdma").into()),
    })
}

fn integrity(transport: &dyn Transport) -> Integrity {
    match transport.needs_checksums() {
        true => Integrity::salted(1),
        false => Integrity::None,
    }
}

/// The other process: answers until this one goes.
fn answer(scheme: &str, address: &str) -> Result<(), Failure> {
    let transport = open(scheme)?;
    let mut end = End::new(transport.dial(address, deadline())?, integrity(&*transport))?;
    let bare = match scheme {
        "shm" => Some(Bare::new(transport.dial(address, deadline())?)?),
        _ => None,
    };
    let mut floor = 0;
    let mut body = vec![0; 1 << 20];
    loop {
        let Ok(len) = end.hear(&mut body) else {
            return Ok(());
        };
        if let (FLOOR, None) = (len, &bare) {
            if end.sleep().is_err() {
                return Ok(());
            }
        } else if let (FLOOR, Some(bare)) = (len, &bare) {
            for _ in 0..u64::from_le_bytes(body[..FLOOR].try_into()?) {
                floor += 1;
                bare.hear(floor);
                bare.say(floor);
            }
        } else {
            end.say(&body[..len])?;
        }
    }
}

/// What a round's one-way times come to, in microseconds.
#[derive(Clone, Copy)]
struct Figures {
    p50: f64,
    p99: f64,
    /// The part of them that are longer than twice the median.
    late: f64,
}

impl Figures {
    fn of(mut times: Vec<f64>) -> Option<Figures> {
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
        let (p50, p99) = (at(0.5)?, at(0.99)?);
        let on_time = times.partition_point(|time| *time <= 2.0 * p50);
        let late = 1.0 - on_time as f64 / times.len() as f64;
        Some(Figures { p50, p99, late })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { p50, p99, late } = self;
        write!(f, "p50 {p50:.3} p99 {p99:.3} late {:.2} %", 100.0 * late)
    }
}

/// Half of what `round_trip` takes each time.
fn measure(count: usize, mut round_trip: impl FnMut() -> Result<(), Failure>) -> Result<Figures, Failure> {
    for _ in 0..count / 10 {
        round_trip()?;
    }
    let mut times = Vec::with_capacity(count);
    let mut before = Instant::now();
    for _ in 0..count {
        round_trip()?;
        let now = Instant::now();
        times.push((now - before).as_secs_f64() * 1e6 / 2.0);
        before = now;
    }
    Figures::of(times).ok_or_else(|| "no round trips".into())
}

/// What `ib_write_lat` reports of each of its round trips.
fn ib_write_lat(size: usize, count: usize) -> Option<Figures> {
    let device = std::env::var("SOFT_ROCE_DEVICE").ok()?;
    let gid = std::env::var("SOFT_ROCE_GID_INDEX").unwrap_or_else(|_| "1".into());
    let command = || {
        let mut command = Command::new("ib_write_lat");
        command.args(["-F", "-U", "-d", &device, "-x", &gid]);
        command.args(["-s", &size.to_string(), "-n", &count.to_string()]);
        command.stderr(Stdio::null());
        command
    };
    let mut server = command().stdout(Stdio::null()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(400));
    let output = command().arg("localhost").output().ok();
    let _ = server.wait();
    // One line for each: its number, a comma, microseconds.
    let text = String::from_utf8(output?.stdout).ok()?;
    let time = |line: &str| line.split_once(", ")?.1.trim().parse().ok();
    Figures::of(text.lines().filter_map(time).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scheme = arguments.first().map_or("shm", String::as_str);
    if let Ok(address) = std::env::var("LATENCY_OTHER_END") {
        return answer(scheme, &address);
    }
    let number = |index: usize, default| {
        arguments
            .get(index)
            .map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (size, count, rounds) = (number(1, 64)?, number(2, 20_000)?, number(3, 7)?);

    let transport = open(scheme)?;
    let mut listener = transport.listen(if scheme == "shm" { "@" } else { "127.0.0.1:0" })?;
    let mut other = Command::new(std::env::current_exe()?)
        .arg(scheme)
        .env("LATENCY_OTHER_END", listener.address())
        .spawn()?;
    let mut accept = || loop {
        match listener.accept() {
            Ok(Some(wire)) => return Ok(wire),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    };
    let mut end = End::new(accept()?, integrity(&*transport))?;
    let bare = match scheme {
        "shm" => Some(Bare::new(accept()?)?),
        _ => None,
    };
    println!("{}", end.link.description);
    let wire_size = frame::size(size);
    println!("{size} bytes, {wire_size} in the ring; {count} round trips a round; one way, us");

    let message = vec![7; size];
    let mut body = vec![0; 1 << 20];
    let mut floor_number = 0;
    let mut ratios = [(); 2].map(|()| (Vec::new(), Vec::new(), Vec::new()));
    for round in 0..rounds {
        let ours = measure(count, || {
            end.say(&message)?;
            end.hear(&mut body).map(drop)
        })?;
        let floors: Vec<(String, Figures)> = match &bare {
            Some(bare) => {
                end.say(&((count + count / 10) as u64).to_le_bytes())?;
                let floor = measure(count, || {
                    floor_number += 1;
                    bare.say(floor_number);
                    bare.hear(floor_number);
                    Ok(())
                })?;
                vec![("bare cache line".into(), floor)]
            }
            None => {
                end.say(&[0; FLOOR])?;
                std::thread::sleep(Duration::from_millis(50));
                [size, wire_size]
                    .into_iter()
                    .filter_map(|size| Some((format!("ib_write_lat -s {size}"), ib_write_lat(size, count)?)))
                    .collect()
            }
        };
        print!("round {round}: {ours}");
        for ((name, floor), (p50, p99, late)) in floors.iter().zip(&mut ratios) {
            print!("   {name} {floor}");
            p50.push(ours.p50 / floor.p50);
            p99.push(ours.p99 / floor.p99);
            late.push(ours.late / floor.late);
        }
        println!();
    }
    for (p50, p99, late) in ratios.into_iter().filter(|(p50, ..)| !p50.is_empty()) {
        let [p50, p99, late] = [p50, p99, late].map(median);
        println!("median ratios: p50 {p50:.3} p99 {p99:.3} late {late:.2}");
    }
    drop(end);
    other.wait()?;
    Ok(())
}

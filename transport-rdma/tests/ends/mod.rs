//! Two ends of one link, driven as a node would, by one thread each.

#![allow(dead_code)]

pub(crate) mod cases;

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use transport::frame::{Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{
    LaneMemory, Link, LinkError, LinkMemory, Listener, Push, ReceiveLanes, SendLanes, SendMemory, Transport,
    Wire,
};
use transport::ring::{Arrival, Position};

pub(crate) const SIZES: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 64 << 10,
    large: 32 << 10,
};
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end: rings of a session and the link that runs on them.
pub(crate) struct End {
    pub(crate) send: SendLanes,
    pub(crate) receive: ReceiveLanes,
    pub(crate) memory: LinkMemory,
    pub(crate) link: Link,
    shared: bool,
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub(crate) fn integrity(transport: &dyn Transport) -> Integrity {
    if transport.needs_checksums() {
        Integrity::salted(0x5eed)
    } else {
        Integrity::None
    }
}

pub(crate) fn accept(listener: &mut dyn Listener) -> Box<dyn Wire> {
    let until = deadline();
    loop {
        if let Some(wire) = listener.accept().unwrap() {
            return wire;
        }
        assert!(Instant::now() < until, "nobody dialled");
        wait(&[listener.descriptor()], Duration::from_millis(100));
    }
}

/// Waits until one of the descriptors is readable; false when none became so.
pub(crate) fn wait(descriptors: &[impl AsFd], at_most: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: at_most.as_secs() as i64,
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    let mut set: Vec<_> = descriptors
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    match poll(&mut set, Some(&timeout)) {
        Ok(ready) => ready > 0,
        Err(rustix::io::Errno::INTR) => true,
        Err(error) => panic!("{}", io::Error::from(error)),
    }
}

/// CPU time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl End {
    /// A new session over a wire.
    pub(crate) fn new(wire: Box<dyn Wire>, integrity: Integrity) -> Result<End, LinkError> {
        End::with_sizes(wire, integrity, &SIZES)
    }

    pub(crate) fn with_sizes(
        mut wire: Box<dyn Wire>,
        integrity: Integrity,
        sizes: &LaneSizes,
    ) -> Result<End, LinkError> {
        let receive = wire.receive_memory(sizes)?;
        let offer = wire.offer(&receive)?;
        wire.send(&offer, deadline())?;
        let offer = wire.receive(deadline())?;
        let SendMemory { rings, cells } = wire.send_memory(sizes, &offer)?;
        let memory = LinkMemory {
            send: rings.clone(),
            receive: receive.clone(),
        };
        let link = wire.link(&memory, &offer, [0; LANES])?;
        Ok(End {
            shared: cells.is_some(),
            send: SendLanes::new(SendMemory { rings, cells }, integrity.clone()),
            receive: ReceiveLanes::new(receive, integrity, link.arrival),
            memory,
            link,
        })
    }

    /// The same session over another wire, from where the peer has consumed.
    pub(crate) fn resume(self, mut wire: Box<dyn Wire>) -> Result<End, LinkError> {
        let End {
            send,
            mut receive,
            memory,
            link,
            shared,
        } = self;
        drop(link);
        let offer = wire.offer(&memory.receive)?;
        wire.send(&offer, deadline())?;
        let offer = wire.receive(deadline())?;
        let consumed: Vec<u8> = receive
            .rings
            .iter()
            .flat_map(|ring| ring.consumed().to_le_bytes())
            .collect();
        wire.send(&consumed, deadline())?;
        let peer = wire.receive(deadline())?;
        let from: [Position; LANES] =
            std::array::from_fn(|lane| u64::from_le_bytes(peer[8 * lane..8 * lane + 8].try_into().unwrap()));
        for (lane, from) in from.iter().enumerate() {
            if !shared {
                send.rings[lane].release(*from).unwrap();
            }
        }
        if !shared {
            for lane in Lane::ALL {
                receive.ring(lane).resume(Arrival::Checked.of(lane));
            }
        }
        // Neither writes into the other's rings before both have prepared them.
        wire.send(b"ready", deadline())?;
        wire.receive(deadline())?;
        let link = wire.link(&memory, &offer, from)?;
        Ok(End {
            send,
            receive,
            memory,
            link,
            shared,
        })
    }

    pub(crate) fn ring_memory(&self) -> &LaneMemory {
        &self.memory.receive
    }

    /// Commits one frame if there is room.
    pub(crate) fn try_send(&self, lane: Lane, write: impl FnOnce(Position, &mut [u8]), len: usize) -> bool {
        let Ok(mut claim) = self.send.ring(lane).claim(len) else {
            return false;
        };
        let position = claim.position();
        write(position, claim.body());
        claim.commit(Kind::Message, 0, 0, 7);
        if let Some(doorbell) = &self.link.doorbell {
            doorbell.ring();
        }
        true
    }

    pub(crate) fn push(&mut self) -> Result<Push, LinkError> {
        self.link.sender.push(&self.send)
    }

    /// Takes in what has arrived, and gives back the room that the peer has made.
    pub(crate) fn poll(&mut self) -> Result<bool, LinkError> {
        let changed = self.link.receiver.poll(&mut self.receive);
        if !self.shared {
            for lane in 0..LANES {
                self.send.rings[lane].release(self.receive.credit[lane]).unwrap();
            }
        }
        changed
    }

    /// Consumes one frame, if there is one, and acknowledges by quarters of the ring.
    pub(crate) fn take<R>(&mut self, lane: Lane, read: impl FnOnce(Position, &[u8]) -> R) -> Option<R> {
        let ring = self.receive.ring(lane);
        let mut result = None;
        while let Some(frame) = ring.peek().unwrap() {
            let (size, kind) = (frame.header.size(), frame.header.kind);
            let is_message = kind == Kind::Message;
            if is_message {
                result = Some((frame.position, frame.body.to_vec()));
            }
            ring.consume(size);
            if is_message {
                break;
            }
        }
        let (consumed, quarter) = (ring.consumed(), ring.capacity() / 4);
        if consumed - self.send.acknowledged(lane) >= quarter {
            self.acknowledge(lane);
        }
        result.map(|(position, body)| read(position, &body))
    }

    pub(crate) fn acknowledge(&mut self, lane: Lane) {
        let consumed = self.receive.ring(lane).consumed();
        self.send.acknowledge[lane.index()].store(consumed, std::sync::atomic::Ordering::Release);
    }

    /// Sleeps until something arrives, as a parked node does.
    ///
    /// # Panics
    /// When nothing wakes us for too long.
    pub(crate) fn sleep(&mut self) -> Result<(), LinkError> {
        if self.link.receiver.arm(&self.receive)? {
            let until = deadline();
            while !wait(&self.link.receiver.descriptors(), Duration::from_secs(1)) {
                assert!(Instant::now() < until, "slept for ever: a wake-up was lost");
            }
        }
        Ok(())
    }
}

/// Where two threads wait for each other, and no longer than that makes sense: one that fails is not waited for.
#[derive(Default)]
pub(crate) struct Meeting {
    here: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    /// # Panics
    /// When the other one does not come.
    pub(crate) fn wait(&self) {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.changed.notify_all();
        let (here, _) = self
            .changed
            .wait_timeout_while(here, 2 * PATIENCE, |here| *here < 2)
            .unwrap();
        let met = *here == 2;
        drop(here);
        assert!(met, "the other end does not come");
    }
}

/// A generator of test data: repeatable, good enough, ours.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn fill(position: Position, body: &mut [u8]) {
    let mut random = Random(position.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for piece in body.chunks_mut(8) {
        piece.copy_from_slice(&random.next().to_le_bytes()[..piece.len()]);
    }
}

/// Both ends call this: frames of every size over every lane in both directions at once, for so many laps of each
/// ring. What arrives must be what stands at the same position of the other end's ring, in order, without a gap.
pub(crate) fn exchange(end: &mut End, laps: u64, sleepy: bool) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut next: [Position; LANES] = Lane::ALL.map(|lane| end.receive.ring(lane).consumed());
    let stop_sending: [Position; LANES] =
        Lane::ALL.map(|lane| end.send.ring(lane).claimed() + laps * end.send.ring(lane).capacity());
    let stop_receiving: [Position; LANES] =
        Lane::ALL.map(|lane| end.receive.ring(lane).consumed() + laps * end.receive.ring(lane).capacity());
    let mut until = deadline();
    loop {
        let mut busy = false;
        for lane in Lane::ALL {
            let index = lane.index();
            while end.send.ring(lane).claimed() < stop_sending[index] {
                let len = random.below(end.send.ring(lane).max_body() + 1) >> random.below(8);
                if !end.try_send(lane, fill, len) {
                    break;
                }
                busy = true;
            }
        }
        // The other end leaves when it has everything and has been told of everything.
        let pushed = end.push();
        let polled = end.poll();
        for lane in Lane::ALL {
            let index = lane.index();
            while next[index] < stop_receiving[index] {
                let check = |position, body: &[u8]| {
                    let mut expected = vec![0; body.len()];
                    fill(position, &mut expected);
                    assert!(
                        body == expected,
                        "bytes at position {position} of {lane:?} are others"
                    );
                };
                if end.take(lane, check).is_none() {
                    break;
                }
                next[index] = end.receive.ring(lane).consumed();
                busy = true;
                let _ = end.push();
            }
        }
        let sent = Lane::ALL
            .iter()
            .all(|lane| end.send.ring(*lane).claimed() >= stop_sending[lane.index()]);
        let received = (0..LANES).all(|lane| next[lane] >= stop_receiving[lane]);
        if received {
            Lane::ALL.into_iter().for_each(|lane| end.acknowledge(lane));
        }
        let all_acknowledged = || {
            Lane::ALL
                .iter()
                .all(|lane| end.send.ring(*lane).released() == end.send.ring(*lane).claimed())
        };
        if sent && received && all_acknowledged() && !matches!(end.push(), Ok(Push::Blocked)) {
            return;
        }
        // What a poll has brought no later one tells of, and nothing wakes for it: room for frames is news as well.
        let news = polled.unwrap();
        if busy {
            until = deadline();
        } else if sleepy && !news && pushed.unwrap() == Push::Done && end.push().is_ok() {
            let _ = end.sleep();
        } else {
            std::thread::yield_now();
        }
        assert!(
            Instant::now() < until,
            "stuck: sent {:?}, received {next:?} of {stop_receiving:?}, credit {:?}",
            end.send.rings,
            end.receive.credit
        );
    }
}

/// Another process that runs one test of this binary, as the role it is given.
pub(crate) fn spawn(test: &str, address: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env("LINK_TEST_ADDRESS", address)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// In the other process: where to dial. None when the test runs on its own.
pub(crate) fn spawned() -> Option<String> {
    std::env::var("LINK_TEST_ADDRESS").ok()
}

/// Fails unless the other process ends well, soon.
pub(crate) fn join(mut child: Child) {
    let until = deadline();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the other process: {status}");
            return;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the other process does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

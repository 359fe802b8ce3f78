//! What is counted. Two nodes in one process, driven by this one thread, so that a count is the same every time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use transport::frame::{Integrity, Kind};
use transport::memory::RingMemory;
use transport::ring::{Arrival, ReceiveRing, SendRing};
use transport::{Address, Drive, Mailbox, MailboxOptions, Node, Timing, Wait};
use transport_rdma::{Rdma, RdmaOptions, Shm};
use transport_tcp::Tcp;

use super::{SIZE, calls};
use crate::error::{Error, doing, failed};
use crate::measure::Metric;

/// Messages of one turn, of which there are [`TURNS`]: enough to have acknowledgements and credit in the figures.
const TURN: usize = 500;
const TURNS: usize = 20;
/// How often each part is done in all.
pub(super) const TIMES: usize = TURN * TURNS;
pub(super) const SECRET: &[u8] = b"two ends of one process";
const RING: usize = 1 << 20;
/// Messages sent in one call, where they are many.
const MANY: usize = 32;

/// The way that a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// From a ring to another, checked as frames over RDMA are, and nothing else
    Ring,
    /// Nodes over shared memory
    Shm,
    /// Nodes over a loopback socket
    Tcp,
    /// Nodes over an RDMA device
    Rdma,
    /// A loopback socket without nodes, for calls
    Socket,
}

/// The part of the way that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Sending one message at a time
    Send,
    /// Sending in batches, one message at a time
    Batch,
    /// Sending in batches, many messages at a time
    Many,
    /// Receiving
    Receive,
    /// Looking for messages when there is none
    Look,
    /// A question and its answer over a stream, on both sides
    Call,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Ring => "ring",
            Way::Shm => "shm",
            Way::Tcp => "tcp",
            Way::Rdma => "rdma",
            Way::Socket => "socket",
        }
    }
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Send => "send",
            Part::Batch => "batch",
            Part::Many => "many",
            Part::Receive => "receive",
            Part::Look => "look",
            Part::Call => "call",
        }
    }

    /// The function that does it, below or in `calls`.
    pub(super) fn function(self) -> &'static str {
        match self {
            Part::Send => "counted_send",
            Part::Batch => "counted_batch",
            Part::Many => "counted_many",
            Part::Receive => "counted_receive",
            Part::Look => "counted_look",
            Part::Call => "counted_call",
        }
    }

    pub(super) fn metric(self) -> Metric {
        match self {
            Part::Send => Metric::InstructionsPerSend,
            Part::Batch => Metric::InstructionsPerSendInBatch,
            Part::Many => Metric::InstructionsPerSendOfMany,
            Part::Receive => Metric::InstructionsPerReceive,
            Part::Look => Metric::InstructionsPerLook,
            Part::Call => Metric::InstructionsPerCall,
        }
    }
}

/// Times longer than anything is counted for, so that nothing depends on them.
pub(super) fn without_deadlines() -> Timing {
    const LONG: Duration = Duration::from_secs(3600);
    Timing {
        heartbeat: LONG,
        silence: 4 * LONG,
        ..Timing::default()
    }
}

/// The two ends of a way.
trait Ends {
    fn counted_send(&mut self, count: usize);
    fn counted_batch(&mut self, count: usize);
    fn counted_many(&mut self, count: usize);
    /// Returns how many there were.
    fn counted_receive(&mut self, count: usize) -> usize;
    fn counted_look(&mut self, times: usize);
    /// What keeps the two going and belongs to no part.
    fn settle(&mut self);
}

/// Does a part [`TIMES`] times, and the others as often as it needs.
pub(crate) fn run(way: Way, part: Part) -> Result<(), Error> {
    if part == Part::Call {
        return calls::run(way);
    }
    let mut ends: Box<dyn Ends> = match way {
        Way::Ring => Box::new(Rings::new()?),
        Way::Shm => Box::new(Nodes::over_shm()?),
        Way::Tcp => Box::new(Nodes::over_tcp()?),
        Way::Rdma => Box::new(Nodes::over_rdma()?),
        Way::Socket => return Err(failed("counting")("over a bare socket there are calls alone")),
    };
    for _ in 0..TURNS {
        match part {
            Part::Batch => ends.counted_batch(TURN),
            Part::Many => ends.counted_many(TURN),
            Part::Send | Part::Receive | Part::Look | Part::Call => ends.counted_send(TURN),
        }
        let taken = ends.counted_receive(TURN);
        if taken != TURN {
            return Err(Error::Miscounted {
                sent: TURN as u64,
                taken: Some(taken as u64),
            });
        }
        ends.settle();
        if part == Part::Look {
            ends.counted_look(TURN);
        }
    }
    Ok(())
}

struct Rings {
    send: SendRing,
    receive: ReceiveRing,
    message: [u8; SIZE],
}

impl Rings {
    fn new() -> Result<Rings, Error> {
        let memory = RingMemory::anonymous(RING).map_err(doing("taking memory for a ring"))?;
        let integrity = Integrity::salted(0x5eed);
        Ok(Rings {
            // Both ends of the same bytes: what a device would have written stands where it was committed.
            send: SendRing::new(memory.clone(), integrity.clone()),
            receive: ReceiveRing::new(memory, integrity, Arrival::Checked),
            message: [0x5a; SIZE],
        })
    }
}

impl Ends for Rings {
    #[inline(never)]
    fn counted_send(&mut self, count: usize) {
        for _ in 0..count {
            if let Ok(mut claim) = self.send.claim(SIZE) {
                claim.body().copy_from_slice(&self.message);
                claim.commit(Kind::Message, 0, 0, 0);
            }
        }
    }

    #[inline(never)]
    fn counted_batch(&mut self, count: usize) {
        self.counted_send(count);
    }

    #[inline(never)]
    fn counted_many(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let many = [&self.message[..]; MANY];
            let many = &many[..left.min(MANY)];
            left -= self
                .send
                .write(Kind::Message, 0, many, |fit| fit)
                .unwrap_or(0)
                .clamp(1, left);
        }
    }

    #[inline(never)]
    fn counted_receive(&mut self, count: usize) -> usize {
        let mut taken = 0;
        while taken < count {
            let Ok(Some(frame)) = self.receive.peek() else {
                break;
            };
            taken += usize::from(frame.header.kind == Kind::Message);
            let size = frame.header.size();
            self.receive.consume(size);
        }
        taken
    }

    #[inline(never)]
    fn counted_look(&mut self, times: usize) {
        for _ in 0..times {
            std::hint::black_box(self.receive.is_empty());
        }
    }

    fn settle(&mut self) {
        self.send.committed(self.send.released(), u64::MAX);
        // Zero already: the receiver's ring is the same memory.
        let _ = self.send.release(self.receive.consumed());
    }
}

struct Nodes {
    address: Address,
    mailbox: Mailbox,
    message: [u8; SIZE],
    /// Last, so that mailboxes are closed before their nodes are.
    near: Node,
    _far: Node,
}

impl Nodes {
    fn over_shm() -> Result<Nodes, Error> {
        Nodes::new(Shm::new(), Shm::new(), "shm://@")
    }

    fn over_tcp() -> Result<Nodes, Error> {
        Nodes::new(Tcp::new(), Tcp::new(), "tcp://127.0.0.1:0")
    }

    fn over_rdma() -> Result<Nodes, Error> {
        let open = || Rdma::new(RdmaOptions::default()).map_err(failed("opening the RDMA device"));
        Nodes::new(open()?, open()?, "rdma://127.0.0.1:0")
    }

    fn new<T: transport::link::Transport + 'static>(near: T, far: T, listen: &str) -> Result<Nodes, Error> {
        let builder = |name, transport| {
            Node::builder(name)
                .secret(SECRET)
                .drive(Drive::Caller)
                .wait(Wait::Spin)
                .timing(without_deadlines())
                .transport(transport)
        };
        let far = builder("far", far)
            .listen(listen)
            .start()
            .map_err(failed("starting the far node"))?;
        let options = MailboxOptions {
            capacity: 2 * TURN as u32,
            ..MailboxOptions::default()
        };
        let mailbox = far.mailbox("far", options).map_err(failed("opening a mailbox"))?;
        let near = builder("near", near)
            .start()
            .map_err(failed("starting the near node"))?;
        let connected = AtomicBool::new(false);
        let address = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !connected.load(Ordering::Acquire) {
                    far.poll();
                }
            });
            let address = near
                .connect(&far.addresses()[0])
                .map_err(failed("connecting"))
                .and_then(|peer| peer.address("far").map_err(failed("asking for the far mailbox")));
            connected.store(true, Ordering::Release);
            address
        })?;
        Ok(Nodes {
            address,
            mailbox,
            message: [0x5a; SIZE],
            near,
            _far: far,
        })
    }
}

impl Ends for Nodes {
    #[inline(never)]
    fn counted_send(&mut self, count: usize) {
        for _ in 0..count {
            // What does not go out is missed by whoever counts.
            let _ = self.address.try_send(&self.message);
        }
    }

    #[inline(never)]
    fn counted_batch(&mut self, count: usize) {
        let mut batch = self.address.batch();
        for _ in 0..count {
            let _ = batch.try_send(&self.message);
        }
    }

    #[inline(never)]
    fn counted_many(&mut self, count: usize) {
        let mut batch = self.address.batch();
        let many = [&self.message[..]; MANY];
        let mut left = count;
        while left > 0 {
            let sent = batch.try_send_all(&many[..left.min(MANY)]);
            left -= sent.unwrap_or(0).clamp(1, left);
        }
    }

    #[inline(never)]
    fn counted_receive(&mut self, count: usize) -> usize {
        let mut taken = 0;
        for _ in 0..10 * count {
            if taken >= count {
                break;
            }
            taken += self.mailbox.poll(|_| {}).unwrap_or(0);
        }
        taken
    }

    #[inline(never)]
    fn counted_look(&mut self, times: usize) {
        for _ in 0..times {
            let _ = self.mailbox.poll(|_| {});
        }
    }

    fn settle(&mut self) {
        while self.near.poll() {}
        let _ = self.mailbox.poll(|_| {});
    }
}

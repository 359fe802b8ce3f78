//! What goes between a server and its clients: casts, and a call after each few, with pauses in between.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tests::over::Over;
use tokio::io::AsyncReadExt;
use tokio::task::block_in_place;
use transport::lane::LaneSizes;
use transport::stream::{
    FrameReceiver, FrameSender, StreamError, StreamOptions, StreamReceiver, StreamSender,
};
use transport::{Address, Node, Peer};

use crate::parties::{Driven, ENDLESS};

/// Who talks with whom, and of what.
pub(crate) struct Traffic {
    pub(crate) server: Driven,
    pub(crate) clients: &'static [Driven],
    /// Streams of frames of each client, each with a caller of its own.
    pub(crate) streams: usize,
    /// Streams of bytes of each client, on which questions and answers are begun, and ended or not.
    pub(crate) begun: usize,
    /// Callers of each client who ask the server's mailbox.
    pub(crate) questions: usize,
    /// Casts before each call, at most.
    pub(crate) burst: usize,
    /// The longest cast, in bytes.
    pub(crate) longest: usize,
    /// Of the server's mailbox.
    pub(crate) capacity: u32,
    /// Sizes of the rings, unless the default.
    pub(crate) rings: Option<LaneSizes>,
    /// What else happens at the same time.
    pub(crate) beside: &'static [Beside],
}

/// What happens to a node while its peers call, and must not make it sleep through a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// A thread looks once at the server for what has come.
    ServerIsPolled,
    /// A thread blocks in a question of the first client.
    ClientBlocks,
    /// The server asks itself a question with a deadline earlier than all others: whoever drives has to be told.
    ServerAsksItself,
    /// A node that is new dials the server, and goes.
    SomebodyDials,
}

/// First byte of what is not answered.
const CAST: u8 = 0;
/// First byte of what is.
pub(crate) const CALL: u8 = 1;

/// The name of the server's mailbox, and of what it listens for streams of frames on.
pub(crate) const SERVICE: &str = "service";
/// What it listens for streams of bytes on, ...
pub(crate) const BYTES: &str = "bytes";
/// ... where questions and answers have this many.
pub(crate) const LENGTH: usize = 64;

impl Traffic {
    /// The ways of one client's callers.
    pub(crate) async fn way(&self, caller: usize, server: &Peer) -> Way {
        let open = |name| async move { server.open_stream(name, StreamOptions::default()).await.unwrap() };
        if caller < self.streams {
            Way::Stream(Box::new(open(SERVICE).await.framed(1 << 20)))
        } else if caller < self.streams + self.begun {
            Way::Bytes(Box::new(open(BYTES).await.split()))
        } else {
            Way::Mailbox(server.address_async(SERVICE).await.unwrap())
        }
    }

    /// Callers of each client.
    pub(crate) fn callers(&self) -> usize {
        self.streams + self.begun + self.questions
    }
}

/// How a caller reaches the server.
pub(crate) enum Way {
    Stream(Box<(FrameSender, FrameReceiver)>),
    Bytes(Box<(StreamSender, StreamReceiver)>),
    Mailbox(Address),
    Beside(Beside, Place),
}

/// Where something happens beside the calls.
pub(crate) struct Place {
    pub(crate) over: Over,
    pub(crate) server: Arc<Node>,
    pub(crate) to_server: Peer,
}

impl Place {
    async fn happens(&self, beside: Beside, number: u64, random: &mut Random) {
        random.pause().await;
        match beside {
            Beside::ServerIsPolled => drop(self.server.poll()),
            Beside::ClientBlocks => {
                let question = message(CALL, number, 9);
                let server = self.to_server.address_async(SERVICE).await.unwrap();
                let answer = block_in_place(|| server.ask(&question, Duration::MAX));
                assert_eq!(answer.unwrap(), question);
            }
            Beside::ServerAsksItself => {
                let question = message(CALL, number, 9);
                let deadline = Duration::from_secs((1 << 30) - number);
                let server = self.server.address(SERVICE).expect("it is open");
                assert_eq!(server.ask_async(&question, deadline).await.unwrap(), question);
            }
            Beside::SomebodyDials => {
                let node = self.over.builder("somebody").timing(ENDLESS).start().unwrap();
                node.connect_async(&self.server.addresses()[0]).await.unwrap();
            }
        }
    }
}

impl Way {
    /// Some casts and a call; done when the call is answered.
    pub(crate) async fn call(&mut self, number: u64, traffic: &Traffic, random: &mut Random) {
        if let Way::Beside(beside, place) = self {
            return place.happens(*beside, number, random).await;
        }
        for _ in 0..random.below(traffic.burst + 1) {
            let len = (random.below(traffic.longest) >> random.below(10)).max(9);
            self.cast(&message(CAST, number, len)).await;
            if random.below(16) == 0 {
                random.pause().await;
            }
        }
        let len = match self {
            Way::Bytes(_) => LENGTH,
            _ => 9 + random.below(64),
        };
        let question = message(CALL, number, len);
        match self {
            Way::Bytes(halves) => {
                begin(&mut halves.0, &question, random).await.unwrap();
                let mut answer = [0; LENGTH];
                halves.1.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, question[..]);
            }
            Way::Stream(halves) => {
                let (sender, receiver) = &mut **halves;
                sender.send(&question).await.unwrap();
                assert_eq!(receiver.recv().await.unwrap().expect("an answer"), question);
            }
            Way::Mailbox(address) => {
                // No deadline: nobody is woken for it.
                let answer = address.ask_async(&question, Duration::MAX).await;
                assert_eq!(answer.unwrap(), question);
            }
            Way::Beside(..) => {}
        }
    }

    async fn cast(&mut self, message: &[u8]) {
        match self {
            Way::Stream(halves) => halves.0.send(message).await.unwrap(),
            Way::Bytes(_) | Way::Beside(..) => {}
            Way::Mailbox(address) => address.send_async(message).await.unwrap(),
        }
    }
}

/// Writes the first part as what is only begun, and the rest as usual, if there is any.
pub(crate) async fn begin(
    writer: &mut StreamSender,
    bytes: &[u8],
    random: &mut Random,
) -> Result<(), StreamError> {
    let (first, rest) = bytes.split_at(1 + random.below(bytes.len()));
    let pieces = [IoSlice::new(first)];
    let written = poll_fn(|context| writer.poll_write_begun(context, &pieces)).await?;
    assert_eq!(written, first.len(), "there is credit for it");
    if random.below(4) == 0 {
        random.pause().await;
    }
    writer.write_all(rest).await
}

fn message(kind: u8, number: u64, len: usize) -> Vec<u8> {
    let mut message = vec![number as u8; len];
    message[0] = kind;
    message[1..9].copy_from_slice(&number.to_le_bytes());
    message
}

/// Numbers from a seed: xorshift.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Random {
        Random((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % bound as u64) as usize
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.below(most.as_nanos() as usize) as u64)
    }

    /// Keeps the thread busy, has it sleep, or lets other tasks run, for no time or up to some hundred microseconds. Without a
    /// timer of the runtime, which would wake it.
    pub(crate) async fn pause(&mut self) {
        match self.below(6) {
            0 | 1 => {}
            2 => spin(self.up_to(Duration::from_micros(20))),
            3 => spin(self.up_to(Duration::from_micros(300))),
            4 => thread::sleep(self.up_to(Duration::from_micros(300))),
            _ => {
                for _ in 0..self.below(4) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

//! The nodes of a bench: what both processes must agree on, and how each starts its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use transport::{Drive, LaneSizes, Mailbox, MailboxOptions, Node, NodeBuilder, Timing};
use transport_rdma::{Rdma, RdmaOptions, Shm};
use transport_tcp::Tcp;

use crate::carrier::{SmallFrames, Transport};
use crate::error::{Error, failed};
use crate::load::Load;
use crate::wait::Wait;

/// Messages that the receiver of a stream may be behind its sender, as far as its mailbox is concerned.
const CAPACITY: u32 = 64 << 10;
/// What a frame adds to a message, and a little more.
const FRAME: usize = 128;
/// The longest frame of a ring is this part of it.
const LONGEST_FRAME: usize = 4;
/// Nobody drives a node while it is the other side's turn, so its peer's silence means nothing.
const SILENCE: Duration = Duration::from_secs(7 * 24 * 3600);
const SECRET_BYTES: usize = 32;

/// What both processes start from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) transport: Transport,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) wait: Wait,
    pub(crate) load: Load,
    /// Bytes of a ring for messages.
    ring: u32,
    /// For rdma alone.
    device: Option<String>,
    small_frames: SmallFrames,
    /// Drawn for each run; the other process hears it through its control pipe.
    secret: [u8; SECRET_BYTES],
}

impl Setup {
    /// `ring` grows where it could not hold a message.
    pub(crate) fn new(
        transport: Transport,
        size: usize,
        wait: Wait,
        load: Load,
        ring: usize,
        device: Option<String>,
    ) -> Result<Setup, Error> {
        let smallest = LONGEST_FRAME * (size + FRAME);
        let ring = ring.max(smallest).next_power_of_two();
        Ok(Setup {
            transport,
            size,
            wait,
            load,
            ring: u32::try_from(ring).unwrap_or(u32::MAX),
            device,
            small_frames: SmallFrames::Polled,
            secret: secret()?,
        })
    }

    /// The same, with receivers that learn of small frames in this way.
    pub(crate) fn with_small_frames(self, small_frames: SmallFrames) -> Setup {
        Setup { small_frames, ..self }
    }

    /// Where the far half listens: the system chooses.
    pub(crate) fn listen(&self) -> &'static str {
        match self.transport {
            Transport::Tcp => "tcp://127.0.0.1:0",
            Transport::Shm => "shm://@",
            Transport::Rdma => "rdma://127.0.0.1:0",
        }
    }

    /// A node that is driven by whoever polls it.
    pub(crate) fn node(&self, name: &str) -> Result<NodeBuilder, Error> {
        let builder = Node::builder(name)
            .secret(&self.secret)
            .drive(Drive::Caller)
            .wait(match self.wait {
                Wait::Spin => transport::Wait::Spin,
                // The bench's own loop polls first and counts what it finds; what is left is to sleep.
                Wait::Adaptive | Wait::Park => transport::Wait::Park,
            })
            .timing(Timing {
                silence: SILENCE,
                ..Timing::default()
            })
            .rings(LaneSizes {
                ordinary: self.ring,
                ..LaneSizes::default()
            });
        transport(self.transport, self.device.as_deref(), self.small_frames, builder)
    }

    pub(crate) fn mailbox(&self, node: &Node, name: &str) -> Result<Mailbox, Error> {
        let options = MailboxOptions {
            capacity: CAPACITY,
            max_message: self.size as u32,
            ..MailboxOptions::default()
        };
        node.mailbox(name, options).map_err(failed("opening a mailbox"))
    }
}

/// Gives a node the transport.
pub(crate) fn transport(
    transport: Transport,
    device: Option<&str>,
    small_frames: SmallFrames,
    builder: NodeBuilder,
) -> Result<NodeBuilder, Error> {
    match transport {
        Transport::Tcp => Ok(builder.transport(Tcp::new())),
        Transport::Shm => Ok(builder.transport(Shm::new())),
        Transport::Rdma if !cfg!(feature = "verbs") => Err(Error::NotBuilt {
            what: "mailboxes over rdma",
            feature: "verbs",
        }),
        Transport::Rdma => {
            let mut options = RdmaOptions::default();
            options.device = device.map(str::to_owned).or(options.device);
            options.small_frames = match small_frames {
                SmallFrames::Polled => transport_rdma::SmallFrames::Polled,
                SmallFrames::Announced => transport_rdma::SmallFrames::Announced,
            };
            let rdma = Rdma::new(options).map_err(failed("opening the RDMA device"))?;
            Ok(builder.transport(rdma))
        }
    }
}

fn secret() -> Result<[u8; SECRET_BYTES], Error> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(failed("drawing a secret"))?;
    Ok(secret)
}

//! The options of the benches of messages.

use clap::Args;

use super::{Traffic, message_size, ring_size};
use crate::carrier::{SmallFrames, Transport};
use crate::load::{Load, MOST_TOGETHER, TOGETHER};

/// Options of the bench of latency.
#[derive(Debug, Args)]
pub(crate) struct Latency {
    #[command(flatten)]
    pub(crate) messages: Messages,
    /// Messages a second, sent whether those before have come or not; several rates with commas. Times are one way, from
    /// when a message was meant to be sent until it was taken (no coordinated omission); there is no floor
    #[arg(long, value_name = "N", value_parser = rate, value_delimiter = ',', conflicts_with_all = ["floor_size", "stages"])]
    pub(crate) rate: Vec<f64>,
    /// Threads that send at the rate, in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), default_value = "1", requires = "rate")]
    pub(crate) senders: u32,
    /// Also where the nanoseconds go: claim, encode, commit, post, device, poll, dispatch
    #[arg(long = "where", conflicts_with = "peers")]
    pub(crate) stages: bool,
}

impl Latency {
    pub(crate) fn load(&self) -> Load {
        Load {
            senders: self.senders,
            peers: self.messages.peers,
            ..Load::ONE
        }
    }
}

/// Options of the bench of throughput.
#[derive(Debug, Args)]
pub(crate) struct Throughput {
    #[command(flatten)]
    pub(crate) messages: Messages,
    /// Threads that send
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), default_value = "1")]
    pub(crate) senders: u32,
    /// Sends messages over 16 KiB as slices, which are copied into the ring, and not in buffers
    #[arg(long)]
    pub(crate) copied: bool,
    /// Messages handed over in one call; 1 for each in a call of its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_TOGETHER)), default_value_t = TOGETHER)]
    pub(crate) together: u32,
}

impl Throughput {
    pub(crate) fn load(&self) -> Load {
        Load {
            senders: self.senders,
            peers: self.messages.peers,
            copied: self.copied,
            together: self.together,
        }
    }
}

/// Options of the benches of messages.
#[derive(Debug, Args)]
pub(crate) struct Messages {
    /// What carries the messages
    #[arg(long, value_enum)]
    pub(crate) transport: Transport,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    /// Bytes that the floor's messages have [default: --size]
    #[arg(long, value_name = "BYTES", value_parser = message_size)]
    pub(crate) floor_size: Option<usize>,
    /// Bytes of the ring that messages travel in; larger where a message needs it
    #[arg(long, value_name = "BYTES", value_parser = ring_size, default_value = "1MiB")]
    pub(crate) ring: usize,
    /// Nodes that the far node has as peers, all in the near process; they send in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), default_value = "1")]
    pub(crate) peers: u32,
    /// Over rdma: how receivers learn of frames of up to 16 KiB; both ways with a comma
    #[arg(long, value_enum, value_delimiter = ',', default_value = "polled")]
    pub(crate) small_frames: Vec<SmallFrames>,
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| (1.0..=1e9).contains(rate))
        .ok_or_else(|| "not a number of messages a second from 1 to 1e9".into())
}

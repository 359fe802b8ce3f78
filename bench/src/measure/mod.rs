//! What a measurement is made of: a side that can run a round, the figures of a round, and the medians of
//! rounds in which two sides took turns.

mod laps;
mod rounds;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use laps::Laps;
#[cfg(feature = "clusters")]
pub(crate) use rounds::medians;
pub(crate) use rounds::{Amount, Schedule, take_turns};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One of two things measured against each other: our own way of doing some work, or the barest there is.
///
/// A side holds whatever it needs between rounds (a process, a connection, a file) and must cost nothing
/// while it is the other side's turn.
pub(crate) trait Side {
    /// Does the work `count` times and says what it cost. Never hangs.
    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error>;

    /// How much of the work to try first, to learn how fast this side is.
    fn first_count(&self) -> u64 {
        64
    }
}

/// What one round of one side found.
#[derive(Debug)]
pub(crate) struct RoundResult {
    /// Time from the round's first message to its last, set-up left out.
    pub(crate) elapsed: Duration,
    pub(crate) figures: Figures,
}

/// The figures of a round, or the medians of those of several rounds.
pub(crate) type Figures = BTreeMap<Metric, f64>;

/// What is measured. The names are those of the JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Metric {
    #[serde(rename = "p50")]
    P50,
    #[serde(rename = "p99")]
    P99,
    #[serde(rename = "p99.9")]
    P999,
    #[serde(rename = "p99.99")]
    P9999,
    #[serde(rename = "messages_per_second")]
    MessagesPerSecond,
    #[serde(rename = "events_per_second")]
    EventsPerSecond,
    #[serde(rename = "commands_per_second")]
    CommandsPerSecond,
    #[serde(rename = "megabytes_per_second")]
    MegabytesPerSecond,
    #[serde(rename = "cpu_ns_per_message")]
    CpuNsPerMessage,
    #[serde(rename = "instructions_per_send")]
    InstructionsPerSend,
    #[serde(rename = "instructions_per_send_in_batch")]
    InstructionsPerSendInBatch,
    #[serde(rename = "instructions_per_send_of_many")]
    InstructionsPerSendOfMany,
    #[serde(rename = "instructions_per_receive")]
    InstructionsPerReceive,
    #[serde(rename = "instructions_per_look")]
    InstructionsPerLook,
    #[serde(rename = "instructions_per_call")]
    InstructionsPerCall,
    #[serde(rename = "claim_ns")]
    ClaimNs,
    #[serde(rename = "encode_ns")]
    EncodeNs,
    #[serde(rename = "commit_ns")]
    CommitNs,
    #[serde(rename = "post_ns")]
    PostNs,
    #[serde(rename = "device_ns")]
    DeviceNs,
    #[serde(rename = "poll_ns")]
    PollNs,
    #[serde(rename = "dispatch_ns")]
    DispatchNs,
}

impl Metric {
    /// The unit of its values.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Metric::P50 | Metric::P99 | Metric::P999 | Metric::P9999 => "us",
            Metric::MessagesPerSecond => "messages/s",
            Metric::EventsPerSecond => "events/s",
            Metric::CommandsPerSecond => "commands/s",
            Metric::MegabytesPerSecond => "MB/s",
            Metric::CpuNsPerMessage
            | Metric::ClaimNs
            | Metric::EncodeNs
            | Metric::CommitNs
            | Metric::PostNs
            | Metric::DeviceNs
            | Metric::PollNs
            | Metric::DispatchNs => "ns",
            Metric::InstructionsPerSend
            | Metric::InstructionsPerSendInBatch
            | Metric::InstructionsPerSendOfMany
            | Metric::InstructionsPerReceive
            | Metric::InstructionsPerLook
            | Metric::InstructionsPerCall => "instructions",
        }
    }
}

/// The rates of `count` pieces of work of `size` bytes, done in `elapsed` with `cpu_ns` of CPU time.
/// A megabyte is 1,000,000 bytes.
pub(crate) fn rates(rate: Metric, count: u64, size: usize, elapsed: Duration, cpu_ns: u64) -> Figures {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let per_second = count as f64 / seconds;
    Figures::from([
        (rate, per_second),
        (Metric::MegabytesPerSecond, per_second * size as f64 / 1e6),
        (Metric::CpuNsPerMessage, cpu_ns as f64 / count.max(1) as f64),
    ])
}

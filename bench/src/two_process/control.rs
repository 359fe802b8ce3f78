//! What the two processes of a bench say to each other besides the traffic that is measured: one JSON object a
//! line, over the child's standard input and output.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::Pace;
use crate::measure::Figures;

/// The kind of traffic of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Near sends a message, far answers with one of the same size, and so on.
    PingPong,
    /// Near sends messages without waiting, far takes them.
    Stream,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    /// Payload of a message in bytes.
    pub(crate) size: usize,
    /// Round trips, or messages one way.
    pub(crate) count: u64,
    /// When each message is to be sent; as soon as possible where there is none.
    pub(crate) pace: Option<Pace>,
}

/// From the near process to the far one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToFar {
    /// Be this: the name of a [`Role`](super::Role), and the role itself.
    Open {
        kind: String,
        role: Value,
    },
    Begin(Plan),
}

/// From the far process to the near one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToNear {
    /// The far half is open, and found at this address (its form is the role's own matter).
    Ready { address: String },
    /// The far half is about to begin the round.
    Begun,
    /// The round is over.
    Finished(FarReport),
    /// The far half has failed and its process is about to end.
    Failed { reason: String },
}

/// What the far half knows about a round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct FarReport {
    /// When its work began, on the clock that both processes share.
    pub(crate) began_ns: u64,
    /// When its last message was done, on the clock that both processes share.
    pub(crate) finished_ns: u64,
    /// CPU time its process used for the round.
    pub(crate) cpu_ns: u64,
    /// CPU time its process has used since it was started.
    pub(crate) cpu_so_far_ns: u64,
    /// What it measured itself, if it does.
    pub(crate) figures: Figures,
}

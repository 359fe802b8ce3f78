//! What of ours carries messages, as the command line names it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What can carry messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// Sockets
    Tcp,
    /// Shared memory of one host
    Shm,
    /// One-sided writes through an RDMA device
    Rdma,
}

impl Transport {
    /// Its name on the command line and in the figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Shm => "shm",
            Transport::Rdma => "rdma",
        }
    }
}

/// How a receiver over RDMA learns of small frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum SmallFrames {
    /// It polls memory, and checksums prove them
    Polled,
    /// Each write makes a completion
    Announced,
}

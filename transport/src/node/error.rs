//! Why a node could not be started, or a mailbox not opened.

use std::time::Duration;

use crate::control::MAX_NAME;
use crate::handshake::Secret;
use crate::lane::LaneSizes;
use crate::link::TransportError;
use crate::mailbox::{MAX_CAPACITY, MAX_MESSAGE};
use crate::session::Timing;

/// Why a node could not be started, or a mailbox not opened.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No secret was given.
    #[error(
        "a node needs a secret of at least {} bytes, the same on every node of the cluster: NodeBuilder::secret",
        Secret::MIN
    )]
    NoSecret,
    /// A name is empty or too long.
    #[error("{what} of {len} bytes: 1 to {MAX_NAME} are allowed")]
    BadName {
        /// Which name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The ring sizes are not allowed.
    #[error("ring sizes {0:?}: each must be a power of two from 4 KiB to 1 GiB")]
    BadRingSizes(LaneSizes),
    /// The times are not allowed.
    #[error("times {0:?}: each must be 1 ms to 30 days, and the silence at least twice the heartbeat")]
    BadTiming(Timing),
    /// The time for which a peer's host has to refuse is not allowed.
    #[error("refused window {window:?}: 1 ms to 30 days are allowed, and None")]
    BadRefusedWindow {
        /// What was asked for.
        window: Duration,
    },
    /// The mailbox's bounds are not allowed.
    #[error("mailbox capacity {capacity}: 1 to {MAX_CAPACITY} are allowed")]
    BadCapacity {
        /// What was asked for.
        capacity: u32,
    },
    /// The mailbox's longest message is too long.
    #[error("longest message of {max_message} bytes: at most {MAX_MESSAGE} are allowed")]
    BadMaxMessage {
        /// What was asked for.
        max_message: u32,
    },
    /// There is a mailbox of this name already.
    #[error("mailbox {name:?} exists already on this node")]
    MailboxExists {
        /// The name.
        name: String,
    },
    /// Streams of this name are listened for already.
    #[error("this node listens for streams named {name:?} already")]
    ListensAlready {
        /// The name.
        name: String,
    },
    /// The node has been closed.
    #[error("the node is closed")]
    Closed,
    /// The address has no scheme that one of the node's transports knows.
    #[error("address {address:?}: none of the node's transports ({known}) speaks it; write scheme://…")]
    UnknownScheme {
        /// The address.
        address: String,
        /// The schemes of the node's transports.
        known: String,
    },
    /// The transport can't.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

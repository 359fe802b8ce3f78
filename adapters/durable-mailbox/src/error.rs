//! Everything that can go wrong, and what the caller can do.

use transport::{MailboxClosed, NodeError, Reference};

/// Why an operation failed. What was acknowledged to anybody stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The journal could not be read or written. If it says that it is poisoned, close everything and open it again.
    #[error(transparent)]
    Journal(#[from] pmem_journal::Error),
    /// A mailbox could not be opened on the node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node is closed.
    #[error(transparent)]
    Closed(#[from] MailboxClosed),
    /// A record of the journal is not one of this crate's, though its kind says so.
    #[error(
        "record at position {position} of the journal: {cause}. Was event kind {} used for something else?",
        crate::KIND
    )]
    NotARecord {
        /// Its position.
        position: u64,
        /// What is wrong with it.
        cause: String,
    },
    /// The message is longer than an outbox takes.
    #[error("message of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest.
        max: usize,
    },
    /// As many messages as may be are sent and not acknowledged: wait, or use an operation that waits.
    #[error("{window} messages wait to be acknowledged already")]
    WindowFull {
        /// How many may.
        window: usize,
    },
    /// The mailbox was handed over: it lives on another node.
    #[error("the mailbox lives on node {}", .at.node)]
    LivesElsewhere {
        /// Where.
        at: Box<Reference>,
    },
    /// A crash fell into a hand-over, and the other side has not been asked yet who owns the mailbox. It comes out of
    /// [`Home::arrivals`](crate::Home::arrivals) if this node does.
    #[error("a hand-over to node {} was cut short, and it is not known yet who owns the mailbox", .to.node)]
    InDoubt {
        /// Whom it was offered to.
        to: Box<Reference>,
    },
    /// The mailbox exists, not here, and this node does not know where: it declined to adopt it once.
    #[error("the mailbox is owned by another node")]
    OwnedByAnother,
    /// The mailbox is open already.
    #[error("the mailbox is open already")]
    AlreadyOpen,
    /// There are fewer messages to take than that.
    #[error("{count} messages were to be taken, and {pending} are pending")]
    NothingToTake {
        /// How many were to be taken.
        count: usize,
        /// How many there are.
        pending: usize,
    },
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

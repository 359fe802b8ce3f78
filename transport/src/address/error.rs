//! Why a message was not sent.

use std::time::Duration;

use crate::buffer::Buffer;
use crate::mailbox::Overflow;
use crate::session::Ended;

/// Why a message was not sent. The message is not delivered and never will be, except as the text says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mailbox has no room for this node now: wait and try again, or use an operation that waits.
    #[error("mailbox {mailbox} is full")]
    MailboxFull {
        /// The mailbox.
        mailbox: String,
    },
    /// The link has no room now: the peer or the network is slower than this sender.
    #[error("the link's send ring is full")]
    RingFull,
    /// The message is longer than the mailbox allows.
    #[error("message of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The message is longer than what the link takes without waiting in between: use an operation that waits, such as
    /// [`crate::Address::send`] or [`crate::Address::send_async`].
    #[error(
        "message of {len} bytes can't be sent or reserved at once: at most {max} can; send it with an operation that waits"
    )]
    TooLongAtOnce {
        /// Its length.
        len: usize,
        /// The longest that goes at once: for a reservation one chunk, otherwise half of the large ring.
        max: usize,
    },
    /// The mailbox was closed: resolve the name again, somebody may have opened it anew.
    #[error("mailbox {mailbox} is closed")]
    MailboxClosed {
        /// The mailbox.
        mailbox: String,
    },
    /// The session with the peer is over: connect again. If the message was already committed, it is a dead letter.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The time given for waiting has passed.
    #[error("no room within {0:?}")]
    TimedOut(Duration),
    /// A typed message has no bytes: its codec says why.
    #[error(transparent)]
    Unencodable(#[from] crate::typed::EncodeError),
}

impl SendError {
    /// Whether waiting may help.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::MailboxFull { .. } | SendError::RingFull)
    }

    /// Whether an operation that waits goes on waiting, under this policy of the mailbox.
    pub(super) fn is_worth_waiting(&self, overflow: Overflow) -> bool {
        matches!(self, SendError::RingFull)
            || matches!(self, SendError::MailboxFull { .. }) && overflow == Overflow::Wait
    }
}

/// A buffer that [`crate::Address::try_send_buffer`] did not send.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unsent {
    /// Why not.
    pub why: SendError,
    /// The buffer as it was; `None` where others took the room after a part of it was committed: fill another one.
    pub buffer: Option<Buffer>,
}

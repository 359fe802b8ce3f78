//! Mailboxes: named, bounded queues of messages with a declared policy for the day they are full.
//!
//! A mailbox promises to hold at most `capacity` messages of each sending node (local senders together count as one),
//! and says what happens to the next one. For remote senders the bound is kept by credit: a sender knows before it
//! sends whether there is room. A mailbox that is full holds back its own senders and nobody else on the link.

mod fifo;
mod lending;
mod message;
mod port;
mod queue;
mod receiver;
mod shared;

pub(crate) use lending::Direct;
pub use message::Message;
pub(crate) use message::{Lost, Payload};
pub(crate) use port::Port;
pub use receiver::Mailbox;
pub(crate) use shared::{LocalDelivery, MailboxShared};

use crate::codec::DecodeError;

/// What happens to a message for a mailbox that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Overflow {
    /// The sender waits; a sender that can't wait is told so.
    #[default]
    Wait = 0,
    /// The sender is told at once, even by operations that could wait.
    Fail = 1,
    /// The message is dropped, at the sender; a dead letter there.
    DropNewest = 2,
    /// The oldest message in the mailbox is dropped; a dead letter at the receiver.
    DropOldest = 3,
}

impl Overflow {
    pub(crate) fn from_wire(byte: u8) -> Result<Overflow, DecodeError> {
        Ok(match byte {
            0 => Overflow::Wait,
            1 => Overflow::Fail,
            2 => Overflow::DropNewest,
            3 => Overflow::DropOldest,
            other => {
                return Err(DecodeError::Unknown {
                    field: "overflow policy",
                    value: u64::from(other),
                });
            }
        })
    }
}

/// The bounds of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxOptions {
    /// Messages held for each sending node. 1 to 1,048,576; default 1,024.
    pub capacity: u32,
    /// Longest message in bytes. Up to 1 GiB; default 64 KiB. Memory for as many bytes as the longest message of any
    /// mailbox (or as the large ring holds, if that is more) may be taken by each peer for messages that are arriving.
    pub max_message: u32,
    /// What happens when it is full. Default [`Overflow::Wait`].
    pub overflow: Overflow,
}

/// The largest capacity of a mailbox, in messages.
pub const MAX_CAPACITY: u32 = 1 << 20;
/// The longest message that a mailbox may be opened for, in bytes.
pub const MAX_MESSAGE: u32 = 1 << 30;

impl Default for MailboxOptions {
    fn default() -> MailboxOptions {
        MailboxOptions {
            capacity: 1024,
            max_message: 64 << 10,
            overflow: Overflow::Wait,
        }
    }
}

/// The mailbox is closed, or its node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is closed")]
pub struct MailboxClosed;

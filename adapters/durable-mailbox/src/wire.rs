//! What outboxes and mailboxes, and homes among themselves, say to each other: messages of the transport.

use serde::{Deserialize, Serialize};
use transport::Reference;
use transport::typed::{Postcard, Protocol, Question, Raw};

use crate::record::Belongings;

/// What an outbox sends to a mailbox: a [`Packet`], as bytes.
pub(crate) struct Packets(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Packets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Protocol for Packets {
    const NAME: &'static str = "durable mailbox";
    const VERSION: u16 = 1;
    type Codec = Raw;
}

impl Question for Packets {
    type Answer = HowFar;
}

/// A delivery, or the question how far deliveries have come.
#[derive(Debug, PartialEq)]
pub(crate) enum Packet<'p> {
    Delivery {
        sender: u128,
        sequence: u64,
        payload: &'p [u8],
    },
    HowFar {
        sender: u128,
    },
}

/// Bytes of a packet before the payload: 1 kind, 16 sender, 8 sequence.
pub(crate) const OVERHEAD: usize = 25;

impl Packet<'_> {
    pub(crate) fn to_bytes(&self) -> Packets {
        let mut bytes = Vec::with_capacity(OVERHEAD);
        match self {
            Packet::Delivery {
                sender,
                sequence,
                payload,
            } => {
                bytes.push(0);
                bytes.extend(sender.to_le_bytes());
                bytes.extend(sequence.to_le_bytes());
                bytes.extend(*payload);
            }
            Packet::HowFar { sender } => {
                bytes.push(1);
                bytes.extend(sender.to_le_bytes());
            }
        }
        Packets(bytes)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Packet<'_>> {
        let (kind, rest) = bytes.split_first()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let sender = u128::from_le_bytes(*sender);
        match kind {
            0 => {
                let (sequence, payload) = rest.split_first_chunk()?;
                Some(Packet::Delivery {
                    sender,
                    sequence: u64::from_le_bytes(*sequence),
                    payload,
                })
            }
            1 if rest.is_empty() => Some(Packet::HowFar { sender }),
            _ => None,
        }
    }
}

/// How far a mailbox has come with an outbox's messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum HowFar {
    /// All up to this one are durable there.
    Until(u64),
    /// The mailbox lives there now: go on with it.
    Moved(Reference),
    /// It is being moved: ask again.
    NotNow,
}

/// What one home says to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Talk {
    /// Own this mailbox from now on.
    Adopt {
        name: String,
        epoch: u64,
        belongings: Belongings,
    },
    /// Do you own, or have you owned, this mailbox in this epoch? If not, you never will.
    Adopted { name: String, epoch: u64 },
}

impl Protocol for Talk {
    const NAME: &'static str = "durable mailbox homes";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Yes: this is where the mailbox is reached.
    Adopted(Reference),
    /// No, and never in that epoch.
    Declined(String),
    /// The journal there failed: nothing was decided.
    Failed(String),
}

impl Question for Talk {
    type Answer = Reply;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_written_and_anything_else_is_none() {
        let packets = [
            Packet::Delivery {
                sender: 1 << 100,
                sequence: 7,
                payload: b"hello",
            },
            Packet::HowFar { sender: 3 },
        ];
        for packet in packets {
            let Packets(bytes) = packet.to_bytes();
            assert_eq!(Packet::from_bytes(&bytes), Some(packet));
            assert_eq!(Packet::from_bytes(&bytes[..16]), None);
        }
        assert_eq!(Packet::from_bytes(&[]), None);
        assert_eq!(Packet::from_bytes(&[2; 40]), None);
        assert_eq!(Packet::from_bytes(&[1; 18]), None);
    }
}

//! Refusals: why a listener turns a dialer away, in words.

use super::kind;
use crate::codec::{DecodeError, Reader, Writer};

/// Why a listener turned a dialer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No common version.
    #[error(
        "the versions have nothing in common: it speaks {oldest} to {newest}; update the older of the two nodes"
    )]
    Version {
        /// The oldest that the listener speaks.
        oldest: u16,
        /// The newest that the listener speaks.
        newest: u16,
    },
    /// Another cluster.
    #[error("the node belongs to another cluster")]
    Cluster,
    /// The proof did not hold.
    #[error("the secret does not match")]
    Secret,
    /// The session is over, or belonged to an earlier incarnation.
    #[error("the session is unknown: it ended, or the node was restarted")]
    UnknownSession,
    /// The node has as many peers as it may.
    #[error("the node has as many peers as it allows")]
    Busy,
    /// Too many dial the node at once. It passes: dialling again soon is worth it.
    #[error("too many nodes dial it at once: try again")]
    Crowded,
    /// The rings asked for are not allowed.
    #[error("the ring sizes are not powers of two within the limits")]
    RingSizes,
    /// The message made no sense.
    #[error("the handshake was malformed")]
    Malformed,
    /// One side needs something of the other that it does not know.
    #[error("capabilities {unknown:#010x} must be known and are not; update the older of the two nodes")]
    Capabilities {
        /// The bits that are not known.
        unknown: u32,
    },
}

impl Refusal {
    /// The reason's number on the wire.
    fn number(&self) -> u8 {
        match self {
            Refusal::Version { .. } => 1,
            Refusal::Cluster => 2,
            Refusal::Secret => 3,
            Refusal::UnknownSession => 4,
            Refusal::Busy => 5,
            Refusal::RingSizes => 6,
            Refusal::Malformed => 7,
            Refusal::Capabilities { .. } => 8,
            Refusal::Crowded => 9,
        }
    }

    /// The refusal in `message`, if it is one.
    pub(super) fn in_message(message: &[u8]) -> Option<Result<Refusal, DecodeError>> {
        let (first, rest) = message.split_first()?;
        (*first == kind::REFUSED).then(|| Refusal::read(Reader::new(rest)))
    }

    /// Bytes after the fields are left unread: later versions may say more.
    fn read(mut reader: Reader<'_>) -> Result<Refusal, DecodeError> {
        Ok(match reader.u8()? {
            1 => Refusal::Version {
                oldest: reader.u16()?,
                newest: reader.u16()?,
            },
            2 => Refusal::Cluster,
            3 => Refusal::Secret,
            4 => Refusal::UnknownSession,
            5 => Refusal::Busy,
            6 => Refusal::RingSizes,
            7 => Refusal::Malformed,
            8 => Refusal::Capabilities {
                unknown: reader.u32()?,
            },
            9 => Refusal::Crowded,
            other => {
                return Err(DecodeError::Unknown {
                    field: "refusal",
                    value: u64::from(other),
                });
            }
        })
    }
}

/// The message that turns a dialer away.
pub fn refuse(refusal: Refusal) -> Vec<u8> {
    let writer = Writer::new().bytes(&[kind::REFUSED, refusal.number()]);
    match refusal {
        Refusal::Version { oldest, newest } => {
            writer.bytes(&oldest.to_le_bytes()).bytes(&newest.to_le_bytes())
        }
        Refusal::Capabilities { unknown } => writer.bytes(&unknown.to_le_bytes()),
        _ => writer,
    }
    .finish()
}

//! Control messages: what travels on the control lane. See `docs/PROTOCOL.md`, "Control messages".

use crate::codec::{DecodeError, Reader, Writer};
use crate::lane::Lane;
use crate::mailbox::Overflow;
use crate::protocol::{Asked, Refusal, Spoken};
use crate::ring::Position;

/// The longest mailbox name, in bytes of UTF-8.
pub const MAX_NAME: usize = 255;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for the handle of a mailbox.
    Resolve {
        /// Chosen by the asker, comes back in the answer.
        request: u32,
        /// The mailbox's name.
        name: String,
        /// The protocol that the asker will speak; `None` for raw bytes.
        protocol: Option<Asked>,
    },
    /// Answers a `Resolve`.
    Resolved {
        /// The number of the `Resolve`.
        request: u32,
        /// What frames carry to reach the mailbox on this session.
        handle: u32,
        /// How many messages may be sent in all before further credit.
        limit: u64,
        /// What happens when the mailbox is full.
        overflow: Overflow,
        /// Longest message, in bytes.
        max_message: u32,
    },
    /// Answers a `Resolve`: no.
    Refused {
        /// The number of the `Resolve`.
        request: u32,
        /// Why not.
        refusal: Refusal,
    },
    /// Grants credit: a count of messages since the handle was resolved, never a difference.
    Credit {
        /// The mailbox.
        handle: u32,
        /// How many messages may be sent in all.
        limit: u64,
    },
    /// The mailbox is closed; nothing sent to the handle from now on is delivered.
    Closed {
        /// The mailbox.
        handle: u32,
        /// How far the closing side had claimed its ordinary ring: what was sent before the mailbox was closed lies below.
        ordinary: u64,
        /// The same of the large ring.
        large: u64,
    },
    /// A message reached no mailbox.
    Undelivered {
        /// The mailbox.
        handle: u32,
        /// Bytes of the message.
        length: u32,
        /// Milliseconds that it waited in the mailbox.
        waited: u32,
        /// The message's correlation id, zero if it had none.
        correlation: u64,
        /// The lane that the message came over.
        lane: Lane,
        /// Up to where that lane has been consumed, the message included: an acknowledgement like any other.
        consumed: Position,
    },
    /// Nothing more will be sent to the handle of a mailbox that was closed.
    Forget {
        /// The handle.
        handle: u32,
        /// How far this side has claimed its ordinary ring: what it sent to the handle lies below.
        ordinary: Position,
        /// The same of the large ring.
        large: Position,
    },
    /// Answers a `Forget`: everything that was sent to the handle has been consumed, and it may be given out again.
    Forgotten {
        /// The handle.
        handle: u32,
        /// The ordinary position of the `Forget`, consumed: an acknowledgement like any other.
        ordinary: Position,
        /// The same of the large ring.
        large: Position,
    },
    /// Nothing but a sign of life.
    Heartbeat,
    /// The session ends in good order: everything sent before has been sent.
    Goodbye,
    /// Answers a `Goodbye`: everything received before it has been taken.
    GoodbyeAcknowledged,
}

mod kind {
    pub(super) const RESOLVE: u8 = 1;
    pub(super) const RESOLVED: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const CREDIT: u8 = 4;
    pub(super) const CLOSED: u8 = 5;
    pub(super) const UNDELIVERED: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const GOODBYE: u8 = 8;
    pub(super) const GOODBYE_ACKNOWLEDGED: u8 = 9;
    pub(super) const FORGET: u8 = 10;
    pub(super) const FORGOTTEN: u8 = 11;
}

impl Control {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_in(Vec::new())
    }

    /// As [`Control::encode`], in memory that has served before.
    pub fn encode_in(&self, memory: Vec<u8>) -> Vec<u8> {
        let writer = Writer::reusing(memory);
        match self {
            Control::Resolve {
                request,
                name,
                protocol,
            } => writer
                .bytes(&[kind::RESOLVE])
                .bytes(&request.to_le_bytes())
                .text(name)
                .text(protocol.as_ref().map_or("", |asked| &asked.name))
                .bytes(&protocol.as_ref().map_or(0, |asked| asked.version).to_le_bytes()),
            Control::Resolved {
                request,
                handle,
                limit,
                overflow,
                max_message,
            } => writer
                .bytes(&[kind::RESOLVED])
                .bytes(&request.to_le_bytes())
                .bytes(&handle.to_le_bytes())
                .bytes(&limit.to_le_bytes())
                .bytes(&[*overflow as u8])
                .bytes(&max_message.to_le_bytes()),
            Control::Refused { request, refusal } => {
                let speaks = refusal.speaks();
                writer
                    .bytes(&[kind::REFUSED])
                    .bytes(&request.to_le_bytes())
                    .bytes(&[refusal.to_wire()])
                    .text(speaks.map_or("", |spoken| &spoken.name))
                    .bytes(&speaks.map_or(0, |spoken| spoken.oldest).to_le_bytes())
                    .bytes(&speaks.map_or(0, |spoken| spoken.newest).to_le_bytes())
            }
            Control::Credit { handle, limit } => writer
                .bytes(&[kind::CREDIT])
                .bytes(&handle.to_le_bytes())
                .bytes(&limit.to_le_bytes()),
            Control::Closed {
                handle,
                ordinary,
                large,
            } => writer
                .bytes(&[kind::CLOSED])
                .bytes(&handle.to_le_bytes())
                .bytes(&ordinary.to_le_bytes())
                .bytes(&large.to_le_bytes()),
            Control::Undelivered {
                handle,
                length,
                waited,
                correlation,
                lane,
                consumed,
            } => writer
                .bytes(&[kind::UNDELIVERED])
                .bytes(&handle.to_le_bytes())
                .bytes(&length.to_le_bytes())
                .bytes(&waited.to_le_bytes())
                .bytes(&correlation.to_le_bytes())
                .bytes(&[*lane as u8])
                .bytes(&consumed.to_le_bytes()),
            Control::Forget {
                handle,
                ordinary,
                large,
            } => writer
                .bytes(&[kind::FORGET])
                .bytes(&handle.to_le_bytes())
                .bytes(&ordinary.to_le_bytes())
                .bytes(&large.to_le_bytes()),
            Control::Forgotten {
                handle,
                ordinary,
                large,
            } => writer
                .bytes(&[kind::FORGOTTEN])
                .bytes(&handle.to_le_bytes())
                .bytes(&ordinary.to_le_bytes())
                .bytes(&large.to_le_bytes()),
            Control::Heartbeat => writer.bytes(&[kind::HEARTBEAT]),
            Control::Goodbye => writer.bytes(&[kind::GOODBYE]),
            Control::GoodbyeAcknowledged => writer.bytes(&[kind::GOODBYE_ACKNOWLEDGED]),
        }
        .finish()
    }

    /// The message in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Control::encode`] does not make, but for fields that mean nothing beside the
    /// others, which are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Control, DecodeError> {
        let mut reader = Reader::new(bytes);
        let control = match reader.u8()? {
            kind::RESOLVE => Control::Resolve {
                request: reader.u32()?,
                name: reader.text("mailbox name")?,
                protocol: {
                    let (name, version) = (reader.text("protocol name")?, reader.u16()?);
                    (!name.is_empty()).then_some(Asked {
                        name: name.into(),
                        version,
                    })
                },
            },
            kind::RESOLVED => Control::Resolved {
                request: reader.u32()?,
                handle: reader.u32()?,
                limit: reader.u64()?,
                overflow: Overflow::from_wire(reader.u8()?)?,
                max_message: reader.u32()?,
            },
            kind::REFUSED => Control::Refused {
                request: reader.u32()?,
                refusal: {
                    let (reason, name) = (reader.u8()?, reader.text("protocol name")?);
                    let (oldest, newest) = (reader.u16()?, reader.u16()?);
                    let speaks = (!name.is_empty()).then_some(Spoken {
                        name: name.into(),
                        oldest,
                        newest,
                    });
                    Refusal::from_wire(reason, speaks)?
                },
            },
            kind::CREDIT => Control::Credit {
                handle: reader.u32()?,
                limit: reader.u64()?,
            },
            kind::CLOSED => Control::Closed {
                handle: reader.u32()?,
                ordinary: reader.u64()?,
                large: reader.u64()?,
            },
            kind::UNDELIVERED => Control::Undelivered {
                handle: reader.u32()?,
                length: reader.u32()?,
                waited: reader.u32()?,
                correlation: reader.u64()?,
                lane: read_lane(&mut reader)?,
                consumed: reader.u64()?,
            },
            kind::FORGET => Control::Forget {
                handle: reader.u32()?,
                ordinary: reader.u64()?,
                large: reader.u64()?,
            },
            kind::FORGOTTEN => Control::Forgotten {
                handle: reader.u32()?,
                ordinary: reader.u64()?,
                large: reader.u64()?,
            },
            kind::HEARTBEAT => Control::Heartbeat,
            kind::GOODBYE => Control::Goodbye,
            kind::GOODBYE_ACKNOWLEDGED => Control::GoodbyeAcknowledged,
            other => {
                return Err(DecodeError::Unknown {
                    field: "control message",
                    value: u64::from(other),
                });
            }
        };
        reader.finish()?;
        Ok(control)
    }
}

fn read_lane(reader: &mut Reader<'_>) -> Result<Lane, DecodeError> {
    let number = reader.u8()?;
    Lane::from_wire(number).ok_or(DecodeError::Unknown {
        field: "lane",
        value: u64::from(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::golden::is_in_the_document;

    fn one_of_each() -> Vec<Control> {
        vec![
            Control::Resolve {
                request: 1,
                name: "greeter".into(),
                protocol: Some(Asked {
                    name: "greeting".into(),
                    version: 3,
                }),
            },
            Control::Resolve {
                request: 2,
                name: "greeter".into(),
                protocol: None,
            },
            Control::Resolved {
                request: 1,
                handle: 2,
                limit: 3,
                overflow: Overflow::DropOldest,
                max_message: 4,
            },
            Control::Refused {
                request: 9,
                refusal: Refusal::NoSuchMailbox,
            },
            Control::Refused {
                request: 10,
                refusal: Refusal::TooManyHandles,
            },
            Control::Refused {
                request: 11,
                refusal: Refusal::SpeaksOther(Some(Spoken {
                    name: "chat".into(),
                    oldest: 1,
                    newest: 2,
                })),
            },
            Control::Credit {
                handle: 7,
                limit: u64::MAX,
            },
            Control::Closed {
                handle: 7,
                ordinary: 8,
                large: 9,
            },
            Control::Undelivered {
                handle: 7,
                length: 64,
                waited: 3,
                correlation: 5,
                lane: Lane::Large,
                consumed: 4096,
            },
            Control::Forget {
                handle: 7,
                ordinary: 8,
                large: 9,
            },
            Control::Forgotten {
                handle: 7,
                ordinary: 8,
                large: 9,
            },
            Control::Heartbeat,
            Control::Goodbye,
            Control::GoodbyeAcknowledged,
        ]
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        for control in one_of_each() {
            assert_eq!(Control::decode(&control.encode()), Ok(control));
        }
    }

    #[test]
    fn every_truncation_and_every_extra_byte_is_refused() {
        for control in one_of_each() {
            let mut bytes = control.encode();
            for len in 0..bytes.len() {
                assert!(
                    Control::decode(&bytes[..len]).is_err(),
                    "{control:?} cut to {len}"
                );
            }
            bytes.push(0);
            assert_eq!(Control::decode(&bytes), Err(DecodeError::Trailing { extra: 1 }));
        }
    }

    #[test]
    fn every_kind_is_the_golden_bytes_of_the_document() {
        let correlation = 0x1122_3344_5566_7788;
        let all = [
            Control::Resolve {
                request: 258,
                name: "a".into(),
                protocol: Some(Asked {
                    name: "p".into(),
                    version: 3,
                }),
            },
            Control::Resolved {
                request: 258,
                handle: 1,
                limit: 1024,
                overflow: Overflow::Wait,
                max_message: 65_536,
            },
            Control::Refused {
                request: 258,
                refusal: Refusal::SpeaksOther(Some(Spoken {
                    name: "q".into(),
                    oldest: 1,
                    newest: 2,
                })),
            },
            Control::Credit {
                handle: 1,
                limit: 1280,
            },
            Control::Closed {
                handle: 1,
                ordinary: 48,
                large: 16,
            },
            Control::Undelivered {
                handle: 1,
                length: 5,
                waited: 2,
                correlation,
                lane: Lane::Ordinary,
                consumed: 64,
            },
            Control::Forget {
                handle: 1,
                ordinary: 48,
                large: 16,
            },
            Control::Forgotten {
                handle: 1,
                ordinary: 48,
                large: 16,
            },
        ];
        for control in all {
            assert!(is_in_the_document(&control.encode()), "{control:?}");
        }
        let one_byte = [Control::Heartbeat, Control::Goodbye, Control::GoodbyeAcknowledged];
        assert_eq!(
            one_byte.map(|control| control.encode()),
            [vec![7], vec![8], vec![9]]
        );
    }
}

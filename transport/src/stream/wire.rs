//! What streams put into mailboxes. See `docs/PROTOCOL.md`, "Streams".

use crate::address::Terms;
use crate::codec::{DecodeError, Reader, Writer};
use crate::mailbox::Overflow;

/// What comes before the name of a listener's mailbox.
pub(crate) const LISTENER: &str = "stream:";

/// First byte of a message to the reader.
pub(super) mod forward {
    /// Bytes; in a stream of frames, more of this frame follows.
    pub(in crate::stream) const PART: u8 = 0;
    /// Bytes that end a frame.
    pub(in crate::stream) const LAST: u8 = 1;
    /// The end of the stream.
    pub(in crate::stream) const FINISH: u8 = 2;
    /// The sender was dropped before the end.
    pub(in crate::stream) const ABORT: u8 = 3;
    /// Asks for what has been taken, once everything before has been.
    pub(in crate::stream) const ASK: u8 = 4;
}

/// First byte of a message back to the writer.
pub(super) mod back {
    /// The stream was accepted.
    pub(in crate::stream) const ACCEPT: u8 = 16;
    /// The stream was turned away.
    pub(in crate::stream) const REFUSE: u8 = 17;
    /// What the reader has taken: a position, and so credit.
    pub(in crate::stream) const CREDIT: u8 = 18;
    /// The reader has taken everything, the end included.
    pub(in crate::stream) const FINISHED: u8 = 19;
    /// The reader was dropped.
    pub(in crate::stream) const STOPPED: u8 = 20;
}

/// Longest message to a writer or to a listener, in bytes.
pub(super) const MAX_BACK: u32 = 64;

/// A mailbox without a name, as its owner describes it to the one who may send to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) handle: u16,
    pub(super) capacity: u32,
    pub(super) max_message: u32,
}

impl Grant {
    pub(super) fn of(terms: &Terms) -> Grant {
        Grant {
            handle: terms.handle,
            capacity: u32::try_from(terms.limit).unwrap_or(u32::MAX),
            max_message: terms.max_message,
        }
    }

    pub(super) fn terms(self) -> Terms {
        Terms {
            handle: self.handle,
            limit: u64::from(self.capacity),
            overflow: Overflow::Wait,
            max_message: self.max_message,
        }
    }

    fn write(self, writer: Writer) -> Writer {
        writer
            .bytes(&self.handle.to_le_bytes())
            .bytes(&self.capacity.to_le_bytes())
            .bytes(&self.max_message.to_le_bytes())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Grant, DecodeError> {
        Ok(Grant {
            handle: reader.u16()?,
            capacity: reader.u32()?,
            max_message: reader.u32()?,
        })
    }
}

/// What the reading end of a direction offers to its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadEnd {
    pub(super) data: Grant,
    pub(super) window: u32,
}

impl ReadEnd {
    fn write(self, writer: Writer) -> Writer {
        self.data.write(writer).bytes(&self.window.to_le_bytes())
    }

    fn read(reader: &mut Reader<'_>) -> Result<ReadEnd, DecodeError> {
        let data = Grant::read(reader)?;
        let window = reader.u32()?;
        let (least, most) = super::StreamOptions::LIMITS;
        // One byte of kind and one of payload: with less, nothing would ever be sent.
        if !(least..=most).contains(&window) || data.max_message < 2 {
            return Err(DecodeError::Unknown {
                field: "stream window or message length",
                value: u64::from(window.min(data.max_message)),
            });
        }
        Ok(ReadEnd { data, window })
    }
}

/// A node's own ends of a stream: where its writer is answered, and, of a two-way stream, where it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) back: Grant,
    pub(super) read: Option<ReadEnd>,
}

impl Open {
    pub(super) fn encode(&self) -> Vec<u8> {
        let writer = self
            .back
            .write(Writer::new().bytes(&[u8::from(self.read.is_some())]));
        match self.read {
            Some(read) => read.write(writer),
            None => writer,
        }
        .finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Open, DecodeError> {
        let mut reader = Reader::new(bytes);
        let two_way = reader.u8()?;
        let back = Grant::read(&mut reader)?;
        let read = match two_way {
            0 => None,
            1 => Some(ReadEnd::read(&mut reader)?),
            other => {
                return Err(DecodeError::Unknown {
                    field: "stream kind",
                    value: u64::from(other),
                });
            }
        };
        reader.finish()?;
        Ok(Open { back, read })
    }
}

/// The answer: where the stream is read, and, of a two-way stream, where its writer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) read: ReadEnd,
    pub(super) back: Option<Grant>,
}

impl Accept {
    pub(super) fn encode(&self) -> Vec<u8> {
        let writer = Writer::new().bytes(&[back::ACCEPT, u8::from(self.back.is_some())]);
        let writer = self.read.write(writer);
        match self.back {
            Some(back) => back.write(writer),
            None => writer,
        }
        .finish()
    }

    /// Decodes what follows the first byte.
    pub(super) fn decode(bytes: &[u8]) -> Result<Accept, DecodeError> {
        let mut reader = Reader::new(bytes);
        let two_way = reader.u8()?;
        let read = ReadEnd::read(&mut reader)?;
        let back = match two_way {
            0 => None,
            _ => Some(Grant::read(&mut reader)?),
        };
        reader.finish()?;
        Ok(Accept { read, back })
    }
}

/// Tells a writer what has been taken.
pub(super) fn credit(consumed: u64) -> [u8; 9] {
    let mut message = [back::CREDIT; 9];
    message[1..].copy_from_slice(&consumed.to_le_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::golden::is_in_the_document;

    const GRANT: Grant = Grant {
        handle: 3,
        capacity: 4100,
        max_message: 65_536,
    };
    const READ: ReadEnd = ReadEnd {
        data: Grant { handle: 4, ..GRANT },
        window: 262_144,
    };

    #[test]
    fn decoding_gives_back_what_was_encoded_and_every_other_length_is_refused() {
        for read in [None, Some(READ)] {
            let open = Open { back: GRANT, read };
            let accept = Accept {
                read: READ,
                back: read.map(|read| read.data),
            };
            let (opened, accepted) = (open.encode(), accept.encode());
            assert!(opened.len().max(accepted.len()) <= MAX_BACK as usize);
            assert_eq!(Open::decode(&opened), Ok(open));
            assert_eq!(Accept::decode(&accepted[1..]), Ok(accept));
            for len in 0..opened.len() {
                assert!(Open::decode(&opened[..len]).is_err());
            }
            for len in 1..accepted.len() {
                assert!(Accept::decode(&accepted[1..len]).is_err());
            }
            assert!(Open::decode(&[&opened[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_window_or_a_message_length_with_which_nothing_could_be_sent_is_refused() {
        for read in [
            ReadEnd { window: 0, ..READ },
            ReadEnd {
                window: u32::MAX,
                ..READ
            },
            ReadEnd {
                data: Grant {
                    max_message: 1,
                    ..GRANT
                },
                ..READ
            },
        ] {
            let open = Open {
                back: GRANT,
                read: Some(read),
            };
            assert!(matches!(
                Open::decode(&open.encode()),
                Err(DecodeError::Unknown { .. })
            ));
        }
    }

    #[test]
    fn the_messages_are_the_golden_bytes_of_the_document() {
        let open = Open {
            back: GRANT,
            read: Some(READ),
        };
        let accept = Accept {
            read: READ,
            back: Some(GRANT),
        };
        assert!(is_in_the_document(&open.encode()), "{:02x?}", open.encode());
        assert!(is_in_the_document(&accept.encode()), "{:02x?}", accept.encode());
        assert!(
            is_in_the_document(&credit(0x0102_0304)),
            "{:02x?}",
            credit(0x0102_0304)
        );
    }
}

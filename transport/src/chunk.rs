//! Chunks: how a message longer than a frame travels in several. See `docs/PROTOCOL.md`, "Chunks".

use crate::codec::Reader;
use crate::ring::Position;
use crate::trace::{self, Tags, TraceContext};

/// Bytes of the extension of a chunk without a correlation id.
pub(crate) const EXTENSION: usize = 16;
/// Most bytes of a message that one chunk carries: what anything more urgent may have to wait for.
pub(crate) const MAX_CHUNK: usize = 64 << 10;

/// Flags of a chunk.
pub(crate) mod flag {
    /// The extension goes on with a correlation id.
    pub(crate) const CORRELATION: u8 = crate::address::FLAG_CORRELATION;
    /// The sender gives the message up; nothing of it is delivered.
    pub(crate) const ABANDONED: u8 = 2;
    /// The sender wants to know at once that the message was consumed.
    pub(crate) const TELL: u8 = 4;
    /// The extension ends with a trace context.
    pub(crate) const TRACE: u8 = 8;
}

/// Byte ranges of the extension.
mod field {
    use std::ops::Range;

    pub(super) const TOTAL: Range<usize> = 0..4;
    pub(super) const OFFSET: Range<usize> = 4..8;
    pub(super) const AFTER: Range<usize> = 8..16;
}

/// What the extension and the flags of a chunk say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Bytes of the whole message.
    pub(crate) total: u32,
    /// Where in the message this chunk's bytes start.
    pub(crate) offset: u32,
    /// Of the last chunk: the message is delivered once the ordinary lane has been consumed up to here.
    pub(crate) after: Position,
    /// Of the last chunk: the message's correlation id.
    pub(crate) correlation: Option<u64>,
    /// Of the last chunk: the message's trace context.
    pub(crate) trace: Option<TraceContext>,
    /// The message is given up.
    pub(crate) abandoned: bool,
    /// The sender waits for the acknowledgement.
    pub(crate) tell: bool,
}

/// How a peer can break the rules of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("chunk whose extension of {0} bytes is too short for its fields")]
    ShortExtension(usize),
    #[error("chunk of {len} bytes at {offset} of a message of {total} bytes")]
    OutsideMessage { total: u32, offset: u32, len: usize },
    #[error("chunk without a byte at {offset} of a message of {total} bytes")]
    Empty { total: u32, offset: u32 },
    #[error("message of {total} bytes in chunks for a mailbox that takes {max}")]
    TooLarge { total: u32, max: u32 },
    #[error(
        "chunk at {offset} of a message of {total} bytes, where {expected} of a message of {open} was to come"
    )]
    OutOfOrder {
        total: u32,
        offset: u32,
        open: u32,
        expected: usize,
    },
    #[error("chunk at {offset} of a message of {total} bytes that never began")]
    NeverBegan { total: u32, offset: u32 },
    #[error("messages of {declared} bytes at once in chunks, where {allowance} are allowed")]
    BeyondAllowance { declared: u64, allowance: u64 },
    #[error("no memory for a message of {0} bytes")]
    NoMemory(u32),
}

impl Chunk {
    /// Bytes that the extension takes.
    pub(crate) const fn extension_len(tags: &Tags<'_>) -> usize {
        EXTENSION + tags.len()
    }

    /// What travels with the message beside its bytes.
    pub(crate) fn tags(&self) -> Tags<'_> {
        Tags {
            correlation: self.correlation,
            trace: self.trace.as_ref(),
        }
    }

    /// The flags.
    pub(crate) fn flags(&self) -> u8 {
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        bit(self.correlation.is_some(), flag::CORRELATION)
            | bit(self.abandoned, flag::ABANDONED)
            | bit(self.tell, flag::TELL)
            | bit(self.trace.is_some(), flag::TRACE)
    }

    /// Writes the extension.
    ///
    /// # Panics
    /// When `extension` is not of [`Chunk::extension_len`] bytes.
    pub(crate) fn encode(&self, extension: &mut [u8]) {
        extension[field::TOTAL].copy_from_slice(&self.total.to_le_bytes());
        extension[field::OFFSET].copy_from_slice(&self.offset.to_le_bytes());
        extension[field::AFTER].copy_from_slice(&self.after.to_le_bytes());
        self.tags().encode(&mut extension[EXTENSION..]);
    }

    /// Reads flags and extension of a chunk that carries `len` bytes of its message. What follows the known fields
    /// is ignored.
    ///
    /// # Errors
    /// [`ChunkError`] when the fields are not there, or the bytes lie outside of the message.
    pub(crate) fn decode(flags: u8, extension: &[u8], len: usize) -> Result<Chunk, ChunkError> {
        let short = |_| ChunkError::ShortExtension(extension.len());
        let mut fields = Reader::new(extension);
        let mut chunk = Chunk {
            total: fields.u32().map_err(short)?,
            offset: fields.u32().map_err(short)?,
            after: fields.u64().map_err(short)?,
            correlation: if flags & flag::CORRELATION != 0 {
                Some(fields.u64().map_err(short)?)
            } else {
                None
            },
            trace: None,
            abandoned: flags & flag::ABANDONED != 0,
            tell: flags & flag::TELL != 0,
        };
        if flags & flag::TRACE != 0 {
            chunk.trace = trace::read(extension, Chunk::extension_len(&chunk.tags()));
        }
        let Chunk { total, offset, .. } = chunk;
        if len as u64 + u64::from(offset) > u64::from(total) {
            return Err(ChunkError::OutsideMessage { total, offset, len });
        }
        // Every chunk brings its message nearer to its end, so a message ends.
        if len == 0 && total > 0 && !chunk.abandoned {
            return Err(ChunkError::Empty { total, offset });
        }
        Ok(chunk)
    }

    /// Whether it is the first of its message.
    pub(crate) fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Whether it is the last of its message, when it carries `len` bytes.
    pub(crate) fn is_last(&self, len: usize) -> bool {
        u64::from(self.offset) + len as u64 == u64::from(self.total)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn chunk(total: u32, offset: u32) -> Chunk {
        Chunk {
            total,
            offset,
            after: 0,
            correlation: None,
            trace: None,
            abandoned: false,
            tell: false,
        }
    }

    #[test]
    fn flags_and_extension_survive_the_wire() {
        let trace = TraceContext::new([7; 16], [9; 8], 1);
        for bits in 0..16 {
            let sent = Chunk {
                total: 900,
                offset: 300,
                after: 0x0102_0304_0506,
                correlation: (bits & 1 != 0).then_some(77),
                trace: trace.filter(|_| bits & 8 != 0),
                abandoned: bits & 2 != 0,
                tell: bits & 4 != 0,
            };
            let mut extension = vec![0; Chunk::extension_len(&sent.tags())];
            sent.encode(&mut extension);
            assert_eq!(Chunk::decode(sent.flags(), &extension, 600), Ok(sent));
            // A trace context that is not whole is as good as none; what carries the message must be there.
            let cut = &extension[..extension.len() - 1];
            if sent.trace.is_some() {
                let untraced = Chunk { trace: None, ..sent };
                assert_eq!(Chunk::decode(sent.flags(), cut, 600), Ok(untraced));
            } else {
                assert!(matches!(
                    Chunk::decode(sent.flags(), cut, 600),
                    Err(ChunkError::ShortExtension(_))
                ));
            }
        }
    }

    #[test]
    fn a_chunk_in_a_ring_is_the_golden_bytes_of_the_document() {
        use crate::frame::{Integrity, Kind, golden};
        use crate::memory::RingMemory;
        use crate::ring::SendRing;

        let ring = SendRing::new(
            RingMemory::anonymous(4096).unwrap(),
            Integrity::salted(1).of(crate::lane::Lane::Large),
        );
        let last = Chunk {
            after: 0x80,
            correlation: Some(0x1122_3344_5566_7788),
            ..chunk(65_541, 65_536)
        };
        let given_up = Chunk {
            abandoned: true,
            ..chunk(65_541, 65_536)
        };
        for (chunk, bytes) in [(last, &b"hello"[..]), (given_up, b"")] {
            let extension = Chunk::extension_len(&chunk.tags());
            let mut claim = ring.claim(extension + bytes.len()).unwrap();
            chunk.encode(&mut claim.body()[..extension]);
            claim.body()[extension..].copy_from_slice(bytes);
            claim.commit(Kind::Chunk, chunk.flags(), extension as u8, 7);
        }
        let frames = ring.span(0, ring.committed(0, u64::MAX))[0];
        for frame in [&frames[..48], &frames[48..]] {
            assert!(golden::is_in_the_document(frame), "{frame:02x?}");
        }
    }

    #[test]
    fn a_chunk_lies_within_its_message_and_brings_it_further() {
        let decode = |total: u32, offset: u32, len, flags| {
            let mut extension = [0; EXTENSION];
            chunk(total, offset).encode(&mut extension);
            Chunk::decode(flags, &extension, len)
        };
        assert!(decode(100, 40, 60, 0).is_ok());
        assert!(matches!(
            decode(100, 40, 61, 0),
            Err(ChunkError::OutsideMessage { .. })
        ));
        assert!(matches!(
            decode(100, u32::MAX, 1, 0),
            Err(ChunkError::OutsideMessage { .. })
        ));
        assert!(matches!(decode(100, 40, 0, 0), Err(ChunkError::Empty { .. })));
        assert!(decode(100, 40, 0, flag::ABANDONED).is_ok());
        assert!(decode(0, 0, 0, 0).is_ok(), "an empty message is whole");
    }
}

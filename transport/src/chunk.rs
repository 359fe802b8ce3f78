//! Chunks: how a message longer than a frame travels in several, and how the receiver puts it together again.
//! See `docs/PROTOCOL.md`, "Chunks".
//!
//! Sans-IO: frames of the large lane go in, in their order; whole messages come out. Of each mailbox at most one message
//! is in assembly, and all of them together never exceed the allowance that both sides know. Whatever a peer
//! writes, nothing panics, and nothing is allocated that its mailbox would not take.

use std::collections::HashMap;

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

/// What has become of the message of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<'c> {
    /// More of it is to come.
    Partial,
    /// The chunk was the whole of it: here it is, where it arrived.
    Single(&'c [u8]),
    /// It is complete.
    Whole(Vec<u8>),
    /// Its sender has given it up.
    Abandoned,
}

struct Assembly {
    bytes: Vec<u8>,
    total: u32,
}

/// The messages of one session that have begun and are not complete.
pub(crate) struct Assembler {
    open: HashMap<u16, Assembly>,
    /// Sum of the lengths of the messages that are open.
    declared: u64,
    /// The most that it may be.
    allowance: u64,
}

impl Assembler {
    /// Messages of `allowance` bytes in all may be open at once.
    pub(crate) fn new(allowance: u64) -> Assembler {
        Assembler {
            open: HashMap::new(),
            declared: 0,
            allowance,
        }
    }

    /// A mailbox takes messages of `max` bytes: at least one such message may be open.
    pub(crate) fn allow(&mut self, max: u32) {
        self.allowance = self.allowance.max(u64::from(max));
    }

    /// Takes a chunk for the mailbox `handle`, which takes messages of at most `max` bytes. A chunk that is a whole
    /// message may come at any time; of those in several, one at a time for each mailbox.
    ///
    /// # Errors
    /// [`ChunkError`]: the peer has broken the protocol (or there is no memory): end the session.
    pub(crate) fn take<'c>(
        &mut self,
        handle: u16,
        chunk: &Chunk,
        bytes: &'c [u8],
        max: u32,
    ) -> Result<Progress<'c>, ChunkError> {
        let &Chunk { total, offset, .. } = chunk;
        if total > max {
            return Err(ChunkError::TooLarge { total, max });
        }
        if chunk.is_first() && chunk.is_last(bytes.len()) && !chunk.abandoned {
            return Ok(Progress::Single(bytes));
        }
        if let Some(assembly) = self.open.get_mut(&handle) {
            if total != assembly.total || offset as usize != assembly.bytes.len() {
                return Err(ChunkError::OutOfOrder {
                    total,
                    offset,
                    open: assembly.total,
                    expected: assembly.bytes.len(),
                });
            }
            // Within what was reserved at the first chunk: `decode` has checked the end against the total.
            assembly.bytes.extend_from_slice(bytes);
            if !chunk.abandoned && !chunk.is_last(bytes.len()) {
                return Ok(Progress::Partial);
            }
            self.declared -= u64::from(total);
            let done = self.open.remove(&handle);
            return Ok(match done {
                Some(done) if !chunk.abandoned => Progress::Whole(done.bytes),
                _ => Progress::Abandoned,
            });
        }
        if !chunk.is_first() {
            return Err(ChunkError::NeverBegan { total, offset });
        }
        if chunk.abandoned {
            return Ok(Progress::Abandoned);
        }
        let (declared, allowance) = (self.declared + u64::from(total), self.allowance);
        if declared > allowance {
            return Err(ChunkError::BeyondAllowance { declared, allowance });
        }
        let mut assembly = Assembly {
            bytes: Vec::new(),
            total,
        };
        assembly
            .bytes
            .try_reserve_exact(total as usize)
            .map_err(|_| ChunkError::NoMemory(total))?;
        assembly.bytes.extend_from_slice(bytes);
        self.declared = declared;
        self.open.insert(handle, assembly);
        Ok(Progress::Partial)
    }

    /// Forgets everything, because the session is over. Returns the mailboxes whose messages are not complete.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = u16> + use<> {
        std::mem::replace(self, Assembler::new(0)).open.into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(total: u32, offset: u32) -> Chunk {
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

    fn take<'c>(
        assembler: &mut Assembler,
        handle: u16,
        total: u32,
        offset: u32,
        bytes: &'c [u8],
    ) -> Result<Progress<'c>, ChunkError> {
        assembler.take(handle, &chunk(total, offset), bytes, 100)
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

    #[test]
    fn messages_for_two_mailboxes_are_put_together_side_by_side() {
        let mut assembler = Assembler::new(150);
        assert_eq!(take(&mut assembler, 1, 5, 0, b"ab"), Ok(Progress::Partial));
        assert_eq!(take(&mut assembler, 2, 4, 0, b"123"), Ok(Progress::Partial));
        assert_eq!(
            take(&mut assembler, 3, 4, 0, b"once"),
            Ok(Progress::Single(b"once"))
        );
        assert_eq!(take(&mut assembler, 1, 5, 2, b"cd"), Ok(Progress::Partial));
        assert_eq!(
            take(&mut assembler, 2, 4, 3, b"4"),
            Ok(Progress::Whole(b"1234".to_vec()))
        );
        assert_eq!(
            take(&mut assembler, 1, 5, 4, b"e"),
            Ok(Progress::Whole(b"abcde".to_vec()))
        );
        assert_eq!(assembler.declared, 0);
    }

    #[test]
    fn an_abandoned_message_gives_its_memory_back_and_the_next_begins_anew() {
        let mut assembler = Assembler::new(150);
        take(&mut assembler, 1, 90, 0, b"ab").unwrap();
        let give_up = Chunk {
            abandoned: true,
            ..chunk(90, 2)
        };
        assert_eq!(assembler.take(1, &give_up, b"", 100), Ok(Progress::Abandoned));
        assert_eq!((assembler.declared, assembler.open.len()), (0, 0));
        assert_eq!(take(&mut assembler, 1, 2, 0, b"ok"), Ok(Progress::Single(b"ok")));
    }

    #[test]
    fn lies_about_lengths_and_order_are_refused() {
        let mut assembler = Assembler::new(150);
        assert!(matches!(
            take(&mut assembler, 1, 101, 0, b"x"),
            Err(ChunkError::TooLarge { .. })
        ));
        assert!(matches!(
            take(&mut assembler, 1, 9, 3, b"x"),
            Err(ChunkError::NeverBegan { .. })
        ));
        take(&mut assembler, 1, 90, 0, b"ab").unwrap();
        assert_eq!(
            take(&mut assembler, 1, 1, 0, b"x"),
            Ok(Progress::Single(b"x")),
            "a whole message may come in between"
        );
        for (total, offset) in [(90, 3), (90, 1), (90, 0), (91, 2), (7, 2)] {
            assert!(
                matches!(
                    take(&mut assembler, 1, total, offset, b"x"),
                    Err(ChunkError::OutOfOrder { .. })
                ),
                "{offset} of {total}"
            );
        }
        assert!(matches!(
            take(&mut assembler, 2, 61, 0, b"x"),
            Err(ChunkError::BeyondAllowance {
                declared: 151,
                allowance: 150
            })
        ));
        assert_eq!(take(&mut assembler, 2, 60, 0, b"x"), Ok(Progress::Partial));
    }

    /// Random chunks, most of them wrong: never a panic, never more memory than the allowance, and what is delivered
    /// is what a plain model says.
    #[test]
    fn whatever_comes_memory_stays_within_the_allowance() {
        const MAX: u32 = 64;
        const ALLOWANCE: u64 = 100;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % limit
        };
        let (mut whole, mut refused) = (0, 0);
        for _ in 0..2_000 {
            let mut assembler = Assembler::new(ALLOWANCE);
            let mut model: HashMap<u16, (u32, Vec<u8>)> = HashMap::new();
            for step in 0..200_u64 {
                let handle = random(3) as u16;
                let (total, offset) = match model.get(&handle) {
                    // Mostly what is due.
                    Some((total, bytes)) if random(30) > 0 => (*total, bytes.len() as u32),
                    _ => (
                        random(80) as u32,
                        if random(10) > 0 { 0 } else { random(80) as u32 },
                    ),
                };
                let left = u64::from(total.saturating_sub(offset));
                let bytes = vec![step as u8; random(left.min(20) + 1) as usize];
                let abandoned = random(20) == 0;
                let mut sent = chunk(total, offset);
                sent.abandoned = abandoned;
                let mut extension = [0; EXTENSION];
                sent.encode(&mut extension);
                let Ok(sent) = Chunk::decode(sent.flags(), &extension, bytes.len()) else {
                    refused += 1;
                    continue;
                };
                match assembler.take(handle, &sent, &bytes, MAX) {
                    Ok(Progress::Partial) => {
                        let (_, known) = model.entry(handle).or_insert((total, Vec::new()));
                        known.extend_from_slice(&bytes);
                    }
                    Ok(Progress::Single(single)) => {
                        assert_eq!((single, offset, total as usize), (&bytes[..], 0, bytes.len()));
                    }
                    Ok(Progress::Whole(message)) => {
                        whole += 1;
                        let (total, mut known) = model.remove(&handle).unwrap();
                        known.extend_from_slice(&bytes);
                        assert_eq!((message.len(), &message), (total as usize, &known));
                    }
                    Ok(Progress::Abandoned) => {
                        model.remove(&handle);
                    }
                    Err(_) => {
                        // A session would end here.
                        refused += 1;
                        break;
                    }
                }
                let held: usize = assembler
                    .open
                    .values()
                    .map(|assembly| assembly.bytes.capacity())
                    .sum();
                assert!(held as u64 <= ALLOWANCE, "{held} bytes held");
            }
        }
        assert!(whole > 500 && refused > 1_000, "{whole} whole, {refused} refused");
    }
}

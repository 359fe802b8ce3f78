//! The frame: what a ring is made of. See `docs/PROTOCOL.md`, "Frames".
//!
//! A frame is a 12-byte header, an optional extension, a payload, and zero bytes up to a multiple of 16. The first
//! word of the header is never zero in a committed frame and always zero where no frame has been committed yet,
//! so a ring needs no other sign that a frame is there. Decoding never panics and never reads past what it was given.

use crate::checksum::Checksum;
use crate::lane::Lane;

/// Bytes of the header.
pub const HEADER: usize = 12;
/// Frames start and end on multiples of this many bytes.
pub const ALIGNMENT: usize = 16;
/// Bits of a length: no frame is longer than a quarter of the largest ring.
const LENGTH_BITS: u32 = 28;

/// Byte ranges of the header.
pub mod field {
    use std::ops::Range;

    /// Extension and payload together, in bytes, in the lower 28 bits; [`super::Kind`] in the upper four. Little-endian
    /// u32.
    pub const LENGTH_AND_KIND: Range<usize> = 0..4;
    /// The receiver's handle of the mailbox; little-endian u16.
    pub const MAILBOX: Range<usize> = 4..6;
    /// Kind-specific bits.
    pub const FLAGS: usize = 6;
    /// Bytes of the extension, which precedes the payload.
    pub const EXTENSION: usize = 7;
    /// The checksum, or zero where the session carries none; little-endian u32.
    pub const CHECKSUM: Range<usize> = 8..12;
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Fills the ring up to its end, or stands where a claim was given up. Skipped by the receiver.
    Padding = 1,
    /// A whole message for a mailbox.
    Message = 2,
    /// A part of a large message.
    Chunk = 3,
    /// A control message, see [`crate::control`].
    Control = 4,
}

impl Kind {
    #[inline]
    fn from_wire(bits: u8) -> Option<Kind> {
        Some(match bits {
            1 => Kind::Padding,
            2 => Kind::Message,
            3 => Kind::Chunk,
            4 => Kind::Control,
            _ => return None,
        })
    }
}

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Extension and payload together, in bytes; below 2^28.
    pub length: u32,
    /// What the frame is for.
    pub kind: Kind,
    /// Kind-specific bits.
    pub flags: u8,
    /// Bytes of the extension.
    pub extension: u8,
    /// The receiver's handle of the mailbox.
    pub mailbox: u16,
}

/// What can be wrong with the bytes where a frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind is not one that this version knows.
    #[error("frame of unknown kind {kind} at position {position}: the peer speaks another protocol version")]
    UnknownKind {
        /// The four bits found.
        kind: u8,
        /// Where the frame starts.
        position: u64,
    },
    /// The frame would reach beyond what a frame may.
    #[error("frame of {length} bytes at position {position} exceeds the limit of {max}")]
    TooLong {
        /// The length found, in bytes.
        length: u32,
        /// The longest allowed here, in bytes.
        max: u32,
        /// Where the frame starts.
        position: u64,
    },
    /// The extension is longer than the frame.
    #[error("extension of {extension} bytes in a frame of {length} at position {position}")]
    ExtensionTooLong {
        /// Bytes of the extension.
        extension: u8,
        /// Bytes of extension and payload.
        length: u32,
        /// Where the frame starts.
        position: u64,
    },
    /// The checksum does not match.
    #[error("frame at position {position} fails its checksum")]
    Checksum {
        /// Where the frame starts.
        position: u64,
    },
}

/// Bytes that a frame with `length` bytes of extension and payload takes in a ring.
#[inline]
pub const fn size(length: usize) -> usize {
    (HEADER + length + ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

impl Header {
    /// The first eight bytes of the header as a number, never zero.
    #[inline]
    pub fn first_word(&self) -> u64 {
        u64::from(self.length)
            | (self.kind as u64) << LENGTH_BITS
            | u64::from(self.mailbox) << 32
            | u64::from(self.flags) << 48
            | u64::from(self.extension) << 56
    }

    /// Decodes the first word of a header that stands at `position`; `max` is the longest length allowed there.
    ///
    /// # Errors
    /// [`FrameError`] for a kind, length or extension that no correct peer sends.
    #[inline]
    pub fn decode(first: u64, position: u64, max: u32) -> Result<Header, FrameError> {
        let length = length(first) as u32;
        let extension = (first >> 56) as u8;
        let Some(kind) = Kind::from_wire(kind_bits(first)) else {
            return Err(FrameError::UnknownKind {
                kind: kind_bits(first),
                position,
            });
        };
        if length > max {
            return Err(FrameError::TooLong {
                length,
                max,
                position,
            });
        }
        if u32::from(extension) > length {
            return Err(FrameError::ExtensionTooLong {
                extension,
                length,
                position,
            });
        }
        Ok(Header {
            length,
            kind,
            flags: (first >> 48) as u8,
            extension,
            mailbox: (first >> 32) as u16,
        })
    }

    /// Bytes that the frame takes in a ring.
    #[inline]
    pub fn size(&self) -> usize {
        size(self.length as usize)
    }
}

/// The length in a first word, in bytes.
#[inline]
pub(crate) const fn length(first: u64) -> usize {
    first as usize & ((1 << LENGTH_BITS) - 1)
}

#[inline]
const fn kind_bits(first: u64) -> u8 {
    (first as u32 >> LENGTH_BITS) as u8
}

/// Whether a first word is that of padding.
#[inline]
pub(crate) const fn is_padding(first: u64) -> bool {
    kind_bits(first) == Kind::Padding as u8
}

/// Whether and how the frames of a session are checksummed.
#[derive(Clone, Debug)]
pub enum Integrity {
    /// The links deliver bytes whole and in order; the checksum field is zero.
    None,
    /// Each frame carries a checksum.
    Checked(Checksum),
}

impl Integrity {
    /// Checksums with the keys that follow from the session's salt.
    pub fn salted(salt: u64) -> Integrity {
        Integrity::Checked(Checksum::new(salt))
    }

    /// What the frames of one lane carry: on the large lane none, whatever the session has. Links tell there how
    /// far bytes have arrived.
    pub fn of(&self, lane: Lane) -> Integrity {
        match lane {
            Lane::Control | Lane::Ordinary => self.clone(),
            Lane::Large => Integrity::None,
        }
    }

    /// Whether frames carry checksums.
    pub fn is_checked(&self) -> bool {
        matches!(self, Integrity::Checked(_))
    }
}

/// The golden vectors of the document.
#[cfg(test)]
pub(crate) mod golden {
    /// Whether the protocol document shows exactly these bytes.
    pub(crate) fn is_in_the_document(bytes: &[u8]) -> bool {
        let words = |text: &str| format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "));
        let document = words(&include_str!("../docs/PROTOCOL.md").replace('`', " "));
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        document.contains(&words(&hex.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::RingMemory;
    use crate::ring::SendRing;

    #[test]
    fn frames_in_a_ring_are_the_golden_bytes_of_the_document() {
        let integrity = Integrity::salted(0x0102_0304_0506_0708);
        let ring = SendRing::new(RingMemory::anonymous(4096).unwrap(), integrity);
        let send = |kind, flags, extension, mailbox, body: &[u8]| {
            let mut claim = ring.claim(body.len()).unwrap();
            claim.body().copy_from_slice(body);
            claim.commit(kind, flags, extension, mailbox);
        };
        let is_golden = |range: std::ops::Range<u64>, what: &str| {
            let bytes = ring.span(range.start, range.end)[0];
            assert!(golden::is_in_the_document(bytes), "{what}: {bytes:02x?}");
        };
        send(Kind::Message, 0, 0, 7, &[1; 16]);
        send(Kind::Message, 1, 8, 7, b"\x88\x77\x66\x55\x44\x33\x22\x11hello");
        send(Kind::Control, 0, 0, 0, &[7]);
        is_golden(32..64, "message");
        is_golden(64..80, "heartbeat");
        // Up to 32 bytes before the end, all of it consumed, then a frame that does not fit there.
        send(Kind::Message, 0, 0, 7, &[1; 100]);
        for _ in 0..30 {
            send(Kind::Message, 0, 0, 7, &[1; 116]);
            ring.committed(ring.released(), u64::MAX);
            ring.release(ring.claimed()).unwrap();
        }
        assert_eq!(ring.claimed(), 4032);
        send(Kind::Message, 0, 0, 7, &[1; 20]);
        send(Kind::Message, 0, 0, 7, &[1; 116]);
        assert_eq!(ring.claimed(), 4096 + 128);
        is_golden(4064..4064 + HEADER as u64, "padding");
    }

    const HEADER_OF_A_MESSAGE: Header = Header {
        length: 70,
        kind: Kind::Message,
        flags: 0x81,
        extension: 6,
        mailbox: 0x0c0d,
    };

    #[test]
    fn the_first_word_is_the_golden_bytes() {
        let bytes = HEADER_OF_A_MESSAGE.first_word().to_le_bytes();
        assert_eq!(bytes[field::LENGTH_AND_KIND], (70u32 | 2 << 28).to_le_bytes());
        assert_eq!(bytes[field::MAILBOX], [0x0d, 0x0c]);
        assert_eq!(bytes[field::FLAGS], 0x81);
        assert_eq!(bytes[field::EXTENSION], 6);
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let longest = Header {
            length: (1 << 28) - HEADER as u32,
            kind: Kind::Control,
            flags: 255,
            extension: 255,
            mailbox: u16::MAX,
        };
        for header in [HEADER_OF_A_MESSAGE, longest] {
            assert_eq!(Header::decode(header.first_word(), 0, header.length), Ok(header));
        }
    }

    #[test]
    fn refuses_a_length_over_the_limit_an_unknown_kind_and_an_extension_longer_than_the_frame() {
        let header = HEADER_OF_A_MESSAGE;
        assert!(matches!(
            Header::decode(header.first_word(), 7, 69),
            Err(FrameError::TooLong { max: 69, .. })
        ));
        assert!(matches!(
            Header::decode(9 << 28, 7, 69),
            Err(FrameError::UnknownKind { kind: 9, position: 7 })
        ));
        let first = Header {
            extension: 71,
            ..header
        }
        .first_word();
        assert!(matches!(
            Header::decode(first, 0, 100),
            Err(FrameError::ExtensionTooLong { .. })
        ));
    }

    #[test]
    fn sizes_are_multiples_of_the_alignment_and_hold_the_frame() {
        for length in 0..200 {
            assert!(
                size(length).is_multiple_of(ALIGNMENT)
                    && size(length) >= HEADER + length
                    && size(length) < HEADER + length + ALIGNMENT
            );
        }
    }
}

//! The frame: what a ring is made of. See `docs/PROTOCOL.md`, "Frames".
//!
//! A frame is a 16-byte header, an optional extension, a payload, and zero bytes up to a multiple of 16. The first
//! word of the header is never zero in a committed frame and always zero where no frame has been committed yet,
//! so a ring needs no other sign that a frame is there. Decoding never panics and never reads past what it was given.

/// Bytes of the header.
pub const HEADER: usize = 16;
/// Frames start and end on multiples of this many bytes.
pub const ALIGNMENT: usize = 16;

/// Byte ranges of the header.
pub mod field {
    use std::ops::Range;

    /// Extension and payload together, in bytes; little-endian u32.
    pub const LENGTH: Range<usize> = 0..4;
    /// [`super::Kind`].
    pub const KIND: usize = 4;
    /// Kind-specific bits.
    pub const FLAGS: usize = 5;
    /// Bytes of the extension, which precedes the payload; little-endian u16.
    pub const EXTENSION: Range<usize> = 6..8;
    /// The receiver's handle of the mailbox; little-endian u32.
    pub const MAILBOX: Range<usize> = 8..12;
    /// CRC32C, or zero where the session carries none; little-endian u32.
    pub const CHECKSUM: Range<usize> = 12..16;
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
    fn from_wire(byte: u8) -> Option<Kind> {
        Some(match byte {
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
    /// Extension and payload together, in bytes.
    pub length: u32,
    /// What the frame is for.
    pub kind: Kind,
    /// Kind-specific bits.
    pub flags: u8,
    /// Bytes of the extension.
    pub extension: u16,
    /// The receiver's handle of the mailbox.
    pub mailbox: u32,
    /// CRC32C of the frame, or zero.
    pub checksum: u32,
}

/// What can be wrong with the bytes where a frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind is not one that this version knows.
    #[error("frame of unknown kind {kind} at position {position}: the peer speaks another protocol version")]
    UnknownKind {
        /// The byte found.
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
        extension: u16,
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
    /// The first word of the header, never zero.
    #[inline]
    pub fn first_word(&self) -> u64 {
        u64::from(self.length)
            | (self.kind as u64) << 32
            | u64::from(self.flags) << 40
            | u64::from(self.extension) << 48
    }

    /// The second word of the header.
    #[inline]
    pub fn second_word(&self) -> u64 {
        u64::from(self.mailbox) | u64::from(self.checksum) << 32
    }

    /// Decodes the two words of a header that stands at `position`; `max` is the longest length allowed there.
    ///
    /// # Errors
    /// [`FrameError`] for a kind, length or extension that no correct peer sends.
    #[inline]
    pub fn decode(first: u64, second: u64, position: u64, max: u32) -> Result<Header, FrameError> {
        let length = first as u32;
        let kind = (first >> 32) as u8;
        let extension = (first >> 48) as u16;
        let Some(kind) = Kind::from_wire(kind) else {
            return Err(FrameError::UnknownKind { kind, position });
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
            flags: (first >> 40) as u8,
            extension,
            mailbox: second as u32,
            checksum: (second >> 32) as u32,
        })
    }

    /// Bytes that the frame takes in a ring.
    #[inline]
    pub fn size(&self) -> usize {
        size(self.length as usize)
    }
}

/// Whether and how the frames of a session are checksummed.
///
/// The salt is drawn afresh for every session and mixed with the frame's position, so bytes of an earlier lap or
/// of another session do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// The links deliver bytes whole and in order; the checksum field is zero.
    None,
    /// CRC32C over salt and position, header without its checksum, extension and payload.
    Crc32c {
        /// The session's salt.
        salt: u64,
    },
}

impl Integrity {
    /// The checksum of a frame, zero for [`Integrity::None`].
    #[inline]
    pub fn checksum(&self, position: u64, first: u64, mailbox: u32, body: &[u8]) -> u32 {
        match *self {
            Integrity::None => 0,
            Integrity::Crc32c { salt } => {
                let mut head = [0u8; 20];
                head[0..8].copy_from_slice(&(salt ^ position).to_le_bytes());
                head[8..16].copy_from_slice(&first.to_le_bytes());
                head[16..20].copy_from_slice(&mailbox.to_le_bytes());
                crc32c::crc32c_append(crc32c::crc32c(&head), body)
            }
        }
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
        let integrity = Integrity::Crc32c {
            salt: 0x0102_0304_0506_0708,
        };
        let ring = SendRing::new(RingMemory::anonymous(4096).unwrap(), integrity);
        let send = |kind, flags, extension, mailbox, body: &[u8]| {
            let mut claim = ring.claim(body.len()).unwrap();
            claim.body().copy_from_slice(body);
            claim.commit(kind, flags, extension, mailbox);
        };
        send(Kind::Message, 0, 0, 7, &[1; 16]);
        send(Kind::Message, 1, 8, 7, b"\x88\x77\x66\x55\x44\x33\x22\x11hello");
        send(Kind::Control, 0, 0, 0, &[7]);
        assert!(golden::is_in_the_document(ring.span(32, 64)[0]), "message");
        assert!(golden::is_in_the_document(ring.span(64, 96)[0]), "heartbeat");
        // Up to 32 bytes before the end, all of it consumed, then a frame that does not fit there.
        for _ in 0..31 {
            send(Kind::Message, 0, 0, 7, &[1; 112]);
            ring.committed(ring.released(), u64::MAX);
            ring.release(ring.claimed()).unwrap();
        }
        assert_eq!(ring.claimed(), 4064);
        send(Kind::Message, 0, 0, 7, &[1; 112]);
        assert_eq!(ring.claimed(), 4096 + 128);
        assert!(
            golden::is_in_the_document(&ring.span(4064, 4096)[0][..HEADER]),
            "padding"
        );
    }

    const HEADER_OF_A_MESSAGE: Header = Header {
        length: 70,
        kind: Kind::Message,
        flags: 0x81,
        extension: 6,
        mailbox: 0x0a0b_0c0d,
        checksum: 0xdead_beef,
    };

    #[test]
    fn header_words_are_the_golden_bytes() {
        let mut bytes = [0u8; HEADER];
        bytes[..8].copy_from_slice(&HEADER_OF_A_MESSAGE.first_word().to_le_bytes());
        bytes[8..].copy_from_slice(&HEADER_OF_A_MESSAGE.second_word().to_le_bytes());
        assert_eq!(bytes[field::LENGTH], 70u32.to_le_bytes());
        assert_eq!(bytes[field::KIND], 2);
        assert_eq!(bytes[field::FLAGS], 0x81);
        assert_eq!(bytes[field::EXTENSION], [6, 0]);
        assert_eq!(bytes[field::MAILBOX], [0x0d, 0x0c, 0x0b, 0x0a]);
        assert_eq!(bytes[field::CHECKSUM], [0xef, 0xbe, 0xad, 0xde]);
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let header = HEADER_OF_A_MESSAGE;
        assert_eq!(
            Header::decode(header.first_word(), header.second_word(), 0, 70),
            Ok(header)
        );
    }

    #[test]
    fn refuses_a_length_over_the_limit_an_unknown_kind_and_an_extension_longer_than_the_frame() {
        let header = HEADER_OF_A_MESSAGE;
        assert!(matches!(
            Header::decode(header.first_word(), 0, 7, 69),
            Err(FrameError::TooLong { max: 69, .. })
        ));
        assert!(matches!(
            Header::decode(9 << 32, 0, 7, 69),
            Err(FrameError::UnknownKind { kind: 9, position: 7 })
        ));
        let first = Header {
            extension: 71,
            ..header
        }
        .first_word();
        assert!(matches!(
            Header::decode(first, 0, 0, 100),
            Err(FrameError::ExtensionTooLong { .. })
        ));
    }

    #[test]
    fn the_checksum_depends_on_salt_position_header_and_body() {
        let base = Integrity::Crc32c { salt: 1 }.checksum(16, 2, 3, b"body");
        assert_ne!(base, Integrity::Crc32c { salt: 2 }.checksum(16, 2, 3, b"body"));
        assert_ne!(base, Integrity::Crc32c { salt: 1 }.checksum(32, 2, 3, b"body"));
        assert_ne!(base, Integrity::Crc32c { salt: 1 }.checksum(16, 1, 3, b"body"));
        assert_ne!(base, Integrity::Crc32c { salt: 1 }.checksum(16, 2, 4, b"body"));
        assert_ne!(base, Integrity::Crc32c { salt: 1 }.checksum(16, 2, 3, b"bodY"));
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

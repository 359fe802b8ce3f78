//! The span: what a link is made of after the handshake. See `docs/PROTOCOL.md`, "Spans".
//!
//! A span is a 16-byte header followed by `length` ring bytes of one lane, which start exactly where the bytes of
//! that lane's previous span ended. Every header also acknowledges the peer's ring of the same lane. Decoding never
//! panics.

use transport::lane::Lane;
use transport::link::LinkError;
use transport::ring::Position;

/// Bytes of the header.
pub(crate) const HEADER: usize = 16;

/// Version of the span format, which each side states in its offer.
pub(crate) const VERSION: u8 = 1;

/// Byte ranges of the header.
pub(crate) mod field {
    use std::ops::Range;

    /// [`super::Lane`].
    pub(crate) const LANE: usize = 0;
    /// Zero.
    pub(crate) const FLAGS: usize = 1;
    /// Zero.
    pub(crate) const RESERVED: Range<usize> = 2..4;
    /// Ring bytes that follow; zero for an acknowledgement alone; little-endian u32.
    pub(crate) const LENGTH: Range<usize> = 4..8;
    /// The position up to which the side that sends this has consumed the lane; little-endian u64.
    pub(crate) const ACKNOWLEDGED: Range<usize> = 8..16;
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Which rings this is about.
    pub(crate) lane: Lane,
    /// Ring bytes that follow.
    pub(crate) length: u32,
    /// How far the side that sends this has consumed its receive ring of the lane.
    pub(crate) acknowledged: Position,
}

impl Header {
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let word = u64::from(self.lane as u8) << (8 * field::LANE)
            | u64::from(self.length) << (8 * field::LENGTH.start);
        let mut bytes = [0; HEADER];
        bytes[..field::ACKNOWLEDGED.start].copy_from_slice(&word.to_le_bytes());
        bytes[field::ACKNOWLEDGED].copy_from_slice(&self.acknowledged.to_le_bytes());
        bytes
    }

    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Header, LinkError> {
        let word = u64::from_le_bytes(*bytes.first_chunk().expect("a header is longer than a word"));
        let acknowledged = u64::from_le_bytes(*bytes.last_chunk().expect("a header is longer than a word"));
        let number = word as u8;
        let Some(lane) = Lane::from_wire(number) else {
            return Err(LinkError::Protocol(format!("span of unknown lane {number}")));
        };
        if (word as u32) >> 8 != 0 {
            return Err(LinkError::Protocol(format!(
                "span with flags {:#04x} and reserved bytes {:02x?}, which this version leaves zero",
                bytes[field::FLAGS],
                &bytes[field::RESERVED],
            )));
        }
        Ok(Header {
            lane,
            length: (word >> 32) as u32,
            acknowledged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [u8; HEADER] = [
        0x02, 0x00, 0x00, 0x00, 0x0d, 0x0c, 0x0b, 0x0a, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
    ];

    const HEADER_OF_THE_LARGE_LANE: Header = Header {
        lane: Lane::Large,
        length: 0x0a0b_0c0d,
        acknowledged: 0x0102_0304_0506_0708,
    };

    #[test]
    fn a_header_is_the_golden_bytes_of_the_protocol_document() {
        assert_eq!(HEADER_OF_THE_LARGE_LANE.encode(), GOLDEN);
        let document = include_str!("../docs/PROTOCOL.md");
        let written = GOLDEN.map(|byte| format!("{byte:02x}")).join(" ");
        assert!(document.contains(&written), "{written}");
    }

    #[test]
    fn fields_stand_where_the_field_module_says() {
        assert_eq!(GOLDEN[field::LANE], Lane::Large as u8);
        assert_eq!(GOLDEN[field::FLAGS], 0);
        assert_eq!(GOLDEN[field::RESERVED], [0, 0]);
        assert_eq!(GOLDEN[field::LENGTH], 0x0a0b_0c0d_u32.to_le_bytes());
        assert_eq!(
            GOLDEN[field::ACKNOWLEDGED],
            0x0102_0304_0506_0708_u64.to_le_bytes()
        );
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        assert_eq!(Header::decode(&GOLDEN).unwrap(), HEADER_OF_THE_LARGE_LANE);
    }

    #[test]
    fn an_unknown_lane_and_any_reserved_bit_are_refused() {
        for lane in 3..=255 {
            let mut bytes = GOLDEN;
            bytes[field::LANE] = lane;
            assert!(matches!(Header::decode(&bytes), Err(LinkError::Protocol(_))));
        }
        for bit in 8..32 {
            let mut bytes = GOLDEN;
            bytes[bit / 8] |= 1 << (bit % 8);
            assert!(
                matches!(Header::decode(&bytes), Err(LinkError::Protocol(_))),
                "bit {bit}"
            );
        }
    }
}

//! A record, byte by byte (`docs/FORMAT.md`, "Record").
//!
//! Encoding never fails once [`encoded_len`] has been checked. Decoding takes any bytes at all and answers with a
//! view or the reason why they are no record; it reads only inside the slice it is given, and never panics.

mod encode;

pub(crate) use encode::{Encoded, Place, encode, encode_control, encoded_len};

use crate::checksum;
use crate::event::{EntityId, Recorded};
use crate::extension::MAX_EXTENSION;

/// Where each field of a record header lies.
pub(crate) mod field {
    use std::ops::Range;
    pub(crate) const CRC: Range<usize> = 0..4;
    pub(crate) const LEN: Range<usize> = 4..8;
    pub(crate) const KIND: Range<usize> = 8..10;
    pub(crate) const SCHEMA: Range<usize> = 10..12;
    pub(crate) const FLAGS: Range<usize> = 12..14;
    pub(crate) const EXTENSION_LEN: Range<usize> = 14..16;
    pub(crate) const POSITION: Range<usize> = 16..24;
    pub(crate) const EPOCH: Range<usize> = 24..28;
    pub(crate) const DURABLE_GAP: Range<usize> = 28..32;
    pub(crate) const ENTITY: Range<usize> = 32..48;
    pub(crate) const SEQUENCE: Range<usize> = 48..56;
    pub(crate) const TIMESTAMP: Range<usize> = 56..64;
}

/// Bytes of a record header.
pub(crate) const HEADER: usize = 64;
/// Bytes of an idempotency key, which stands behind the header if flag 8 says so.
pub(crate) const KEY: usize = 16;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 16;
/// Largest payload.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Largest record.
pub(crate) const MAX_RECORD: usize = HEADER + KEY + MAX_EXTENSION + MAX_PAYLOAD;

/// First record of its batch.
pub(crate) const FLAG_BATCH_START: u16 = 1;
/// Last record of its batch.
pub(crate) const FLAG_BATCH_END: u16 = 2;
/// A record of the journal's own: kind says which, it has no position of its own.
pub(crate) const FLAG_CONTROL: u16 = 4;
/// An idempotency key stands between header and extension.
pub(crate) const FLAG_KEY: u16 = 8;
const KNOWN_FLAGS: u16 = FLAG_BATCH_START | FLAG_BATCH_END | FLAG_CONTROL | FLAG_KEY;

/// Control kind: a writer opened the journal; everything after it is of its epoch.
pub(crate) const CONTROL_EPOCH: u16 = 1;
/// Control kind: the writer closed the journal in good order.
pub(crate) const CONTROL_CLOSE: u16 = 2;

/// Identity of the journal: 16 random bytes chosen when it is created.
pub(crate) type JournalId = [u8; 16];

/// What the checksum of every record of this epoch starts from (`docs/FORMAT.md`, "Checksum").
pub(crate) fn salt(journal: &JournalId, epoch: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(journal), &epoch.to_le_bytes())
}

pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("a record length of {0} bytes, outside what a record or the rest of the segment can hold")]
    Length(u32),
    #[error("flags {0:#06x} that no version defines")]
    Flags(u16),
    #[error("an extension of {0} bytes in a record of {1}")]
    Extension(u16, u32),
    #[error("checksum {found:#010x} where the bytes make {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("epoch {found} where {current} is in force")]
    Epoch { found: u32, current: u32 },
    #[error("position {found} where {expected} follows")]
    Position { found: u64, expected: u64 },
    #[error("a batch that does not start or end where it should")]
    Batch,
    #[error("nothing is written there")]
    Missing,
    #[error("entity sequence {found} where {expected} follows")]
    Sequence { found: u64, expected: u64 },
}

/// A record header, decoded but not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) crc: u32,
    pub(crate) len: usize,
    pub(crate) kind: u16,
    pub(crate) schema_version: u16,
    pub(crate) flags: u16,
    pub(crate) extension_len: usize,
    pub(crate) position: u64,
    pub(crate) epoch: u32,
    pub(crate) durable_gap: u32,
    pub(crate) entity: u128,
    pub(crate) sequence: u64,
    pub(crate) timestamp: u64,
}

fn get<const N: usize>(bytes: &[u8; HEADER], range: std::ops::Range<usize>) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[range]);
    out
}

impl Header {
    /// The header of no record at all.
    pub(crate) const NONE: Header = Header {
        crc: 0,
        len: 0,
        kind: 0,
        schema_version: 0,
        flags: 0,
        extension_len: 0,
        position: 0,
        epoch: 0,
        durable_gap: 0,
        entity: 0,
        sequence: 0,
        timestamp: 0,
    };

    /// The header in these bytes, or `None` where the length is zero: nothing was ever written there.
    #[inline(always)]
    pub(crate) fn decode(bytes: &[u8; HEADER], room: u64) -> Result<Option<Header>, Invalid> {
        let len = u32::from_le_bytes(get(bytes, field::LEN));
        if len == 0 && bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        if (len as usize) < HEADER || len as usize > MAX_RECORD || padded(len as usize) as u64 > room {
            return Err(Invalid::Length(len));
        }
        let flags = u16::from_le_bytes(get(bytes, field::FLAGS));
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Invalid::Flags(flags));
        }
        let extension = u16::from_le_bytes(get(bytes, field::EXTENSION_LEN));
        let key = if flags & FLAG_KEY != 0 { KEY } else { 0 };
        if HEADER + key + extension as usize > len as usize {
            return Err(Invalid::Extension(extension, len));
        }
        Ok(Some(Header {
            crc: u32::from_le_bytes(get(bytes, field::CRC)),
            len: len as usize,
            kind: u16::from_le_bytes(get(bytes, field::KIND)),
            schema_version: u16::from_le_bytes(get(bytes, field::SCHEMA)),
            flags,
            extension_len: extension as usize,
            position: u64::from_le_bytes(get(bytes, field::POSITION)),
            epoch: u32::from_le_bytes(get(bytes, field::EPOCH)),
            durable_gap: u32::from_le_bytes(get(bytes, field::DURABLE_GAP)),
            entity: u128::from_le_bytes(get(bytes, field::ENTITY)),
            sequence: u64::from_le_bytes(get(bytes, field::SEQUENCE)),
            timestamp: u64::from_le_bytes(get(bytes, field::TIMESTAMP)),
        }))
    }

    pub(crate) fn is_control(&self) -> bool {
        self.flags & FLAG_CONTROL != 0
    }

    /// The idempotency key in `record`, which is this header's record, whole; 0 for none.
    pub(crate) fn key(&self, record: &[u8]) -> u128 {
        match record.get(HEADER..HEADER + KEY) {
            Some(key) if self.flags & FLAG_KEY != 0 => {
                let mut bytes = [0; KEY];
                bytes.copy_from_slice(key);
                u128::from_le_bytes(bytes)
            }
            _ => 0,
        }
    }

    /// The event in `record`, which is this header's record, whole.
    #[inline(always)]
    pub(crate) fn event<'a>(&self, record: &'a [u8]) -> Recorded<'a> {
        let extension = HEADER + if self.flags & FLAG_KEY != 0 { KEY } else { 0 };
        let body = extension + self.extension_len;
        Recorded {
            position: self.position,
            entity: EntityId(self.entity),
            sequence: self.sequence,
            kind: self.kind,
            schema_version: self.schema_version,
            idempotency_key: self.key(record),
            timestamp: self.timestamp,
            batch_end: self.flags & FLAG_BATCH_END != 0,
            payload: &record[body..self.len],
            extension: &record[extension..body],
        }
    }
}

/// Checks the record's checksum against the salt.
#[inline]
pub(crate) fn check(record: &[u8], header: &Header, salt: u32) -> Result<(), Invalid> {
    let computed = checksum::append(salt, &record[field::LEN.start..header.len]);
    if computed == header.crc {
        Ok(())
    } else {
        Err(Invalid::Checksum {
            found: header.crc,
            computed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn an_event_of_256_bytes_takes_320_on_the_medium_and_336_with_a_key() {
        assert_eq!(encoded_len(&Event::new(1, 1, &[0; 256])), 320);
        assert_eq!(encoded_len(&Event::new(1, 1, &[0; 256]).key(9)), 336);
    }

    #[test]
    fn a_record_comes_back_as_it_went_in_and_every_flipped_bit_is_noticed() {
        let event = Event::new(7, 9, b"payload")
            .key(11)
            .schema(3)
            .tags(&["a", "blue"])
            .correlation(13);
        let salt = salt(&[5; 16], 2);
        let place = Place {
            salt,
            epoch: 2,
            flags: FLAG_BATCH_END,
            position: 17,
            durable_gap: 4,
            sequence: 19,
            timestamp: 23,
        };
        let mut bytes = Vec::new();
        let mut scratch = Vec::new();
        let mut record = encode(&event, &place, &mut scratch);
        record.seal(place.salt);
        record.append_to(&mut bytes);
        assert_eq!(bytes.len(), encoded_len(&event));
        let decode = |bytes: &[u8]| -> Result<Header, Option<Invalid>> {
            let header = Header::decode(bytes[..HEADER].try_into().unwrap(), bytes.len() as u64)
                .map_err(Some)?
                .ok_or(None)?;
            check(bytes, &header, salt).map_err(Some)?;
            Ok(header)
        };
        let back = decode(&bytes).unwrap().event(&bytes);
        assert_eq!((back.position, back.entity, back.sequence), (17, EntityId(7), 19));
        assert_eq!((back.kind, back.schema_version, back.timestamp), (9, 3, 23));
        assert_eq!(back.idempotency_key, 11);
        assert_eq!((back.payload, back.correlation()), (&b"payload"[..], Some(13)));
        assert_eq!(back.tags().collect::<Vec<_>>(), ["a", "blue"]);
        for bit in 0..decode(&bytes).unwrap().len * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

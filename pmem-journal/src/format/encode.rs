//! From an event to the bytes of its record.

use super::{ALIGN, FLAG_CONTROL, FLAG_KEY, HEADER, KEY, padded};
use crate::checksum;
use crate::event::{EntityId, Event};
use crate::extension;

/// What the header says besides the event itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) salt: u32,
    pub(crate) epoch: u32,
    pub(crate) flags: u16,
    pub(crate) position: u64,
    pub(crate) durable_gap: u32,
    pub(crate) sequence: u64,
    pub(crate) timestamp: u64,
}

fn key_len(event: &Event<'_>) -> usize {
    if event.idempotency_key == 0 { 0 } else { KEY }
}

/// Bytes of the event's record on the medium, padding included.
pub(crate) fn encoded_len(event: &Event<'_>) -> usize {
    padded(HEADER + key_len(event) + extension::len(event.tags, event.correlation) + event.payload.len())
}

/// A record, ready to be written once it has its checksum: limits have been checked.
pub(crate) struct Encoded<'a> {
    /// The header as little-endian words.
    pub(crate) header: [u64; HEADER / 8],
    /// Key and extension.
    pub(crate) prefix: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Encoded<'_> {
    /// Puts the checksum into the header, where it is: a header that is moved as soon as it is stored is loaded two words at a
    /// time, which waits for the fence of the append before (`medium/nt.rs`).
    #[inline(always)]
    pub(crate) fn seal(&mut self, salt: u32) {
        let crc = checksum::of_record(salt, &self.header, self.prefix, self.payload);
        self.header[0] |= u64::from(crc);
    }

    /// Bytes with the padding.
    pub(crate) fn padded_len(&self) -> usize {
        padded(HEADER + self.prefix.len() + self.payload.len())
    }

    /// Appends all of it to `out`.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        let len = HEADER + self.prefix.len() + self.payload.len();
        out.reserve(padded(len));
        let mut header = [0; HEADER];
        for (bytes, word) in header.as_chunks_mut().0.iter_mut().zip(self.header) {
            *bytes = word.to_le_bytes();
        }
        out.extend_from_slice(&header);
        if !self.prefix.is_empty() {
            out.extend_from_slice(self.prefix);
        }
        out.extend_from_slice(self.payload);
        if len != padded(len) {
            out.extend_from_slice(&[0; ALIGN][..padded(len) - len]);
        }
    }
}

/// Encodes the event's record but for the checksum ([`Encoded::seal`]), with `scratch` for what is neither header nor payload.
#[inline(always)]
pub(crate) fn encode<'a>(event: &Event<'a>, place: &Place, scratch: &'a mut Vec<u8>) -> Encoded<'a> {
    let plain = event.idempotency_key == 0 && event.correlation.is_none() && event.tags.is_empty();
    let extension = if plain { 0 } else { encode_prefix(event, scratch) };
    let prefix: &[u8] = if plain { &[] } else { scratch };
    let len = HEADER + prefix.len() + event.payload.len();
    let flags = place.flags | if event.idempotency_key == 0 { 0 } else { FLAG_KEY };
    let entity = event.entity.0;
    // The fields in the order of `field`.
    let header = [
        (len as u64) << 32,
        u64::from(event.kind)
            | u64::from(event.schema_version) << 16
            | u64::from(flags) << 32
            | (extension as u64) << 48,
        place.position,
        u64::from(place.epoch) | u64::from(place.durable_gap) << 32,
        entity as u64,
        (entity >> 64) as u64,
        place.sequence,
        place.timestamp,
    ];
    Encoded {
        header,
        prefix,
        payload: event.payload,
    }
}

/// Key and extension; answers the extension's length.
#[cold]
fn encode_prefix(event: &Event<'_>, out: &mut Vec<u8>) -> usize {
    out.clear();
    if event.idempotency_key != 0 {
        out.extend_from_slice(&event.idempotency_key.to_le_bytes());
    }
    let key = out.len();
    extension::append(out, event.tags.iter().copied(), event.correlation);
    out.len() - key
}

/// A control record: no event, no payload.
pub(crate) fn encode_control(kind: u16, place: &Place) -> Vec<u8> {
    let mut out = Vec::new();
    let event = Event {
        schema_version: 0,
        ..Event::new(EntityId(0), kind, &[])
    };
    let flags = FLAG_CONTROL;
    let mut scratch = Vec::new();
    let mut record = encode(&event, &Place { flags, ..*place }, &mut scratch);
    record.seal(place.salt);
    record.append_to(&mut out);
    out
}

//! What anybody has to do who makes of 1,024 events the bytes of their records: read each from where the caller has it, fill a header,
//! checksum both, and put them behind the record before. No sequences, keys, limits or batches; the checksum is the journal's own code.

use pmem_journal::Event;

#[path = "../../src/checksum/mod.rs"]
#[allow(dead_code, reason = "of its checksums only the record's is used")]
mod checksum;

pub(crate) fn make_records(out: &mut Vec<u8>, events: &[Event<'_>], first_position: u64) {
    for (position, event) in (first_position..).zip(events) {
        let len = (64 + event.payload.len()) as u64;
        let entity = event.entity.0;
        let mut header = [
            len << 32,
            u64::from(event.kind) | u64::from(event.schema_version) << 16,
            position,
            1,
            entity as u64,
            (entity >> 64) as u64,
            position,
            position,
        ];
        header[0] |= u64::from(checksum::of_record(1, &header, &[], event.payload));
        for word in header {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(event.payload);
    }
}

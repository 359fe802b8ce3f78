//! A snapshot file, byte by byte (`docs/FORMAT.md`, "Snapshot").
//!
//! Decoding takes any bytes at all, and holds no more in memory than the file's length.

use std::ops::Range;

use crate::event::EntityId;
use crate::format::JournalId;
use crate::medium::{MediumFile, read_full};
use crate::snapshot::Snapshot;

mod field {
    use std::ops::Range;
    pub(super) const MAGIC: Range<usize> = 0..8;
    pub(super) const VERSION: Range<usize> = 8..10;
    pub(super) const FEATURES: Range<usize> = 10..16;
    pub(super) const JOURNAL: Range<usize> = 16..32;
    pub(super) const ENTITY: Range<usize> = 32..48;
    pub(super) const SEQUENCE: Range<usize> = 48..56;
    pub(super) const POSITION: Range<usize> = 56..64;
    pub(super) const TIMESTAMP: Range<usize> = 64..72;
    pub(super) const PAYLOAD_LEN: Range<usize> = 72..80;
    pub(super) const SCHEMA: Range<usize> = 80..82;
    pub(super) const PAYLOAD_CRC: Range<usize> = 120..124;
    pub(super) const CRC: Range<usize> = 124..128;
}

const HEADER: usize = 128;
const MAGIC: &[u8; 8] = b"PMJSNAPS";
const VERSION: u16 = 1;
/// Largest payload of a snapshot.
pub const MAX_SNAPSHOT: usize = 256 << 20;

pub(crate) fn encode(journal: &JournalId, snapshot: &Snapshot) -> Vec<u8> {
    let payload = &snapshot.payload;
    let mut out = vec![0; HEADER];
    out.reserve_exact(payload.len());
    out[field::MAGIC].copy_from_slice(MAGIC);
    out[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
    out[field::JOURNAL].copy_from_slice(journal);
    out[field::ENTITY].copy_from_slice(&snapshot.entity.0.to_le_bytes());
    out[field::SEQUENCE].copy_from_slice(&snapshot.sequence.to_le_bytes());
    out[field::POSITION].copy_from_slice(&snapshot.position.to_le_bytes());
    out[field::TIMESTAMP].copy_from_slice(&snapshot.timestamp.to_le_bytes());
    out[field::PAYLOAD_LEN].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    out[field::SCHEMA].copy_from_slice(&snapshot.schema_version.to_le_bytes());
    out[field::PAYLOAD_CRC].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let crc = crc32c::crc32c(&out[..field::CRC.start]);
    out[field::CRC].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Which checks are made. All of them, except where a test shows what each is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotChecks {
    pub(crate) header: bool,
    pub(crate) payload: bool,
}

impl SnapshotChecks {
    pub(crate) const ALL: SnapshotChecks = SnapshotChecks {
        header: true,
        payload: true,
    };
}

/// The snapshot in the file, or why it is none of this journal and entity.
pub(crate) fn read(
    file: &dyn MediumFile,
    journal: &JournalId,
    entity: EntityId,
    checks: SnapshotChecks,
) -> Result<Snapshot, String> {
    let io = |e: std::io::Error| e.to_string();
    let mut header = [0; HEADER];
    let n = read_full(file, 0, &mut header).map_err(io)?;
    if n < HEADER || header[field::MAGIC] != *MAGIC {
        return Err("it does not begin as a snapshot does".to_owned());
    }
    let version = u16::from_le_bytes(array(&header, field::VERSION));
    if version != VERSION {
        return Err(format!(
            "it has version {version}, and this build reads {VERSION}"
        ));
    }
    let crc = crc32c::crc32c(&header[..field::CRC.start]);
    if checks.header && crc.to_le_bytes() != header[field::CRC] {
        return Err("its header's checksum is wrong".to_owned());
    }
    if header[field::FEATURES] != [0; 6] {
        return Err("it uses features that this build does not know".to_owned());
    }
    if header[field::JOURNAL] != *journal {
        return Err("it is another journal's".to_owned());
    }
    let snapshot = Snapshot {
        entity: EntityId(u128::from_le_bytes(array(&header, field::ENTITY))),
        sequence: u64::from_le_bytes(array(&header, field::SEQUENCE)),
        position: u64::from_le_bytes(array(&header, field::POSITION)),
        timestamp: u64::from_le_bytes(array(&header, field::TIMESTAMP)),
        schema_version: u16::from_le_bytes(array(&header, field::SCHEMA)),
        payload: Vec::new(),
    };
    if snapshot.entity != entity {
        return Err(format!("it is of entity {}", snapshot.entity));
    }
    let len = u64::from_le_bytes(array(&header, field::PAYLOAD_LEN));
    let there = file.len().map_err(io)?.saturating_sub(HEADER as u64);
    if len > MAX_SNAPSHOT as u64 || len != there {
        return Err(format!("its payload has {there} bytes where {len} were written"));
    }
    let mut payload = vec![0; len as usize];
    let n = read_full(file, HEADER as u64, &mut payload).map_err(io)?;
    let crc = crc32c::crc32c(&payload[..n]).to_le_bytes();
    if n < payload.len() || (checks.payload && crc != header[field::PAYLOAD_CRC]) {
        return Err("its payload's checksum is wrong".to_owned());
    }
    Ok(Snapshot { payload, ..snapshot })
}

fn array<const N: usize>(bytes: &[u8; HEADER], range: Range<usize>) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[range]);
    out
}

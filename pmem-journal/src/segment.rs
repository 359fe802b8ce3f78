//! Segment files: their names, header and footer (`docs/FORMAT.md`, "Segment").
//!
//! A segment gets its final name only after its header is durable, so a `.seg` file with a bad header is corruption
//! and never a crash's leftover. The footer is durable before the next segment gets its name.

use std::io;

use crate::error::Error;
use crate::format::JournalId;
use crate::medium::{Access, Medium, MediumFile, read_full};

/// First byte of records.
pub(crate) const DATA: u64 = 4096;
/// Bytes kept for the footer at the end.
pub(crate) const FOOTER: u64 = 64;
/// Bytes of a segment that hold no events.
pub(crate) const OVERHEAD: u64 = DATA + FOOTER + crate::format::HEADER as u64;
/// Version of everything in a segment.
pub(crate) const VERSION: u16 = 1;
/// Smallest segment.
pub(crate) const MIN_SIZE: u64 = 8192;
/// Largest segment.
pub(crate) const MAX_SIZE: u64 = 1 << 30;
/// Segments of this size and more are multiples of it, so that huge pages can map them.
pub(crate) const HUGE_PAGE: u64 = 2 << 20;
/// Name of a segment that is being made.
pub(crate) const SPARE: &str = "spare.new";

/// Segment flag: events were taken out of it, so positions and sequences rise with gaps.
const FLAG_COMPACTED: u16 = 1;

const HEADER_LEN: usize = 128;
const HEADER_MAGIC: &[u8; 8] = b"PMJSEGMT";
const FOOTER_MAGIC: &[u8; 8] = b"PMJSEALD";

pub(crate) fn name(index: u64) -> String {
    format!("{index:016x}.seg")
}

/// The index in a segment's name; `None` for any other file.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 16)?;
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|index| self::name(*index) == name)
}

/// Segment `index`, open for reading: its name, its file and its header.
pub(crate) fn open(medium: &dyn Medium, index: u64) -> Result<(String, Box<dyn MediumFile>, Header), Error> {
    let name = name(index);
    let file = medium
        .open(&name, Access::Read)
        .map_err(Error::io("open", &name))?;
    let header = Header::read(&*file, &name)?;
    Ok((name, file, header))
}

/// The segment being written.
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) file: Box<dyn MediumFile>,
}

/// What the first 128 bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) journal: JournalId,
    pub(crate) index: u64,
    pub(crate) size: u64,
    /// Log position of the first record: bytes of records in all segments before.
    pub(crate) base: u64,
    /// Global position of the first event.
    pub(crate) first_position: u64,
    /// Epoch in force at the start.
    pub(crate) epoch: u32,
    /// Events were taken out of it: positions and sequences rise with gaps.
    pub(crate) compacted: bool,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(HEADER_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&(if self.compacted { FLAG_COMPACTED } else { 0 }).to_le_bytes());
        out[16..32].copy_from_slice(&self.journal);
        out[32..40].copy_from_slice(&self.index.to_le_bytes());
        out[40..48].copy_from_slice(&self.size.to_le_bytes());
        out[48..56].copy_from_slice(&self.base.to_le_bytes());
        out[56..64].copy_from_slice(&self.first_position.to_le_bytes());
        out[64..68].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&out[..124]);
        out[124..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads and checks the header of the segment called `name`.
    pub(crate) fn read(file: &dyn MediumFile, name: &str) -> Result<Header, Error> {
        let corrupt = |cause: String| Error::corruption(name, 0, cause);
        let mut bytes = [0; HEADER_LEN];
        let n = read_full(file, 0, &mut bytes).map_err(Error::io("read", name))?;
        if n < HEADER_LEN {
            return Err(corrupt(format!(
                "{n} bytes, where a segment header has {HEADER_LEN}"
            )));
        }
        if &bytes[0..8] != HEADER_MAGIC {
            return Err(corrupt(
                "not a segment: it does not start with PMJSEGMT".to_owned(),
            ));
        }
        let version = u16::from_le_bytes(array(&bytes[8..10]));
        if version != VERSION {
            return Err(Error::UnknownVersion {
                segment: name.to_owned(),
                found: version,
                known: VERSION,
            });
        }
        if crc32c::crc32c(&bytes[..124]) != u32::from_le_bytes(array(&bytes[124..])) {
            return Err(corrupt("the segment header's checksum is wrong".to_owned()));
        }
        let flags = u16::from_le_bytes(array(&bytes[10..12]));
        let codec = u32::from_le_bytes(array(&bytes[12..16]));
        if flags & !FLAG_COMPACTED != 0 || codec != 0 {
            return Err(Error::UnknownFeature {
                segment: name.to_owned(),
                flags,
                codec,
            });
        }
        let header = Header {
            compacted: flags & FLAG_COMPACTED != 0,
            journal: array(&bytes[16..32]),
            index: u64::from_le_bytes(array(&bytes[32..40])),
            size: u64::from_le_bytes(array(&bytes[40..48])),
            base: u64::from_le_bytes(array(&bytes[48..56])),
            first_position: u64::from_le_bytes(array(&bytes[56..64])),
            epoch: u32::from_le_bytes(array(&bytes[64..68])),
        };
        if Some(header.index) != index_of(name) {
            return Err(corrupt(format!(
                "the header says segment {}: the file was renamed",
                header.index
            )));
        }
        let len = file.len().map_err(Error::io("read the length of", name))?;
        if !(MIN_SIZE..=MAX_SIZE).contains(&header.size) || len != header.size {
            return Err(corrupt(format!(
                "{len} bytes long, where its header says {}",
                header.size
            )));
        }
        // Keeps every sum of positions inside u64, whatever the bytes say.
        if header.base > u64::MAX / 2 || header.first_position > u64::MAX / 2 || header.epoch == 0 {
            return Err(corrupt(
                "positions or epoch beyond what a journal can reach".to_owned(),
            ));
        }
        Ok(header)
    }

    /// End of the room for records.
    pub(crate) fn data_end(&self) -> u64 {
        self.size - FOOTER
    }

    /// End of the room for events: a record that closes the journal always fits behind.
    pub(crate) fn events_end(&self) -> u64 {
        self.data_end() - crate::format::HEADER as u64
    }

    /// Log position of a byte of this segment.
    pub(crate) fn log_position(&self, offset: u64) -> u64 {
        self.base + (offset - DATA)
    }

    /// Offset in this segment of a log position.
    pub(crate) fn offset_of(&self, log_position: u64) -> u64 {
        log_position - self.base + DATA
    }
}

/// What the last 64 bytes of a sealed segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index: u64,
    /// Offset one past the last record.
    pub(crate) end: u64,
    /// Global position of the first event after this segment.
    pub(crate) next_position: u64,
    /// Epoch in force at the end.
    pub(crate) epoch: u32,
    /// Log position of the first record after this segment: what the next segment's header has as its base.
    pub(crate) log_end: u64,
    /// Nanoseconds since 1970 of the last event in it; 0 if it has none.
    pub(crate) timestamp: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER as usize] {
        let mut out = [0; FOOTER as usize];
        out[0..8].copy_from_slice(FOOTER_MAGIC);
        out[8..16].copy_from_slice(&self.index.to_le_bytes());
        out[16..24].copy_from_slice(&self.end.to_le_bytes());
        out[24..32].copy_from_slice(&self.next_position.to_le_bytes());
        out[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        out[40..48].copy_from_slice(&self.log_end.to_le_bytes());
        out[48..56].copy_from_slice(&self.timestamp.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The footer, or `None` if the segment is not sealed.
    pub(crate) fn read(file: &dyn MediumFile, header: &Header) -> io::Result<Option<Footer>> {
        let mut bytes = [0; FOOTER as usize];
        let n = read_full(file, header.data_end(), &mut bytes)?;
        if n < bytes.len()
            || &bytes[0..8] != FOOTER_MAGIC
            || crc32c::crc32c(&bytes[..60]) != u32::from_le_bytes(array(&bytes[60..]))
        {
            return Ok(None);
        }
        let footer = Footer {
            index: u64::from_le_bytes(array(&bytes[8..16])),
            end: u64::from_le_bytes(array(&bytes[16..24])),
            next_position: u64::from_le_bytes(array(&bytes[24..32])),
            epoch: u32::from_le_bytes(array(&bytes[32..36])),
            log_end: u64::from_le_bytes(array(&bytes[40..48])),
            timestamp: u64::from_le_bytes(array(&bytes[48..56])),
        };
        Ok(Some(footer).filter(|f| f.index == header.index && (DATA..=header.data_end()).contains(&f.end)))
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(index_of(&name(0x1f)), Some(0x1f));
        for other in [
            "1f.seg",
            "000000000000001F.seg",
            "+00000000000001f.seg",
            "000000000000001f.seg.bak",
            "LOCK",
        ] {
            assert_eq!(index_of(other), None, "{other}");
        }
    }
}

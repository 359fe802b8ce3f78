//! The cursor of a projection, and the result stored with it: one file, replaced whole (`docs/FORMAT.md`, "Cursor").

use std::io;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::JournalId;
use crate::medium::{Access, Medium, MediumFile, read_full};

/// Directory of cursors, in the journal's.
pub(crate) const DIRECTORY: &str = "projections";
/// Largest result of a projection in bytes.
pub const MAX_RESULT: usize = 256 << 20;
const SUFFIX: &str = ".cursor";

mod field {
    use std::ops::Range;
    pub(super) const MAGIC: Range<usize> = 0..8;
    pub(super) const VERSION: Range<usize> = 8..10;
    pub(super) const FEATURES: Range<usize> = 10..16;
    pub(super) const JOURNAL: Range<usize> = 16..32;
    pub(super) const POSITION: Range<usize> = 32..40;
    pub(super) const RESULT_LEN: Range<usize> = 40..48;
    pub(super) const RESULT_CRC: Range<usize> = 120..124;
    pub(super) const CRC: Range<usize> = 124..128;
}

const HEADER: usize = 128;
const MAGIC: &[u8; 8] = b"PMJCURSR";
const VERSION: u16 = 1;

/// How far a projection came, and what it made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Of the next event.
    pub(crate) position: u64,
    pub(crate) result: Vec<u8>,
}

pub(crate) fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(letter)
}

/// Names of all projections of the journal.
pub(crate) fn names(medium: &dyn Medium) -> io::Result<Vec<String>> {
    let files = match medium.directory(DIRECTORY).list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let name = |file: String| {
        file.strip_suffix(SUFFIX)
            .filter(|name| is_name(name))
            .map(str::to_owned)
    };
    Ok(files.into_iter().filter_map(name).collect())
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}{SUFFIX}")
}

/// Durable, in place of the one before, when this returns.
pub(crate) fn store(medium: &dyn Medium, journal: &JournalId, name: &str, cursor: &Cursor) -> Result<()> {
    let (len, max) = (cursor.result.len(), MAX_RESULT);
    if len > max {
        let (len, max) = (len as u64, max as u64);
        return Err(Error::ResultTooLarge { len, max });
    }
    let path = path(name);
    let bytes = encode(journal, cursor);
    medium
        .store(&path, &bytes)
        .and_then(|()| medium.directory(DIRECTORY).sync_dir())
        .map_err(Error::writing(path, bytes.len() as u64))
}

/// What was stored last; the beginning if nothing was.
pub(crate) fn load(medium: &dyn Medium, journal: &JournalId, name: &str) -> Result<Cursor> {
    let bad = |cause| Error::BadCursor {
        name: name.to_owned(),
        cause,
    };
    match medium.open(&path(name), Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Cursor::default()),
        Err(e) => Err(bad(e.to_string())),
        Ok(file) => decode(&*file, journal).map_err(bad),
    }
}

fn encode(journal: &JournalId, cursor: &Cursor) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    out.reserve_exact(cursor.result.len());
    out[field::MAGIC].copy_from_slice(MAGIC);
    out[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
    out[field::JOURNAL].copy_from_slice(journal);
    out[field::POSITION].copy_from_slice(&cursor.position.to_le_bytes());
    out[field::RESULT_LEN].copy_from_slice(&(cursor.result.len() as u64).to_le_bytes());
    out[field::RESULT_CRC].copy_from_slice(&crc32c::crc32c(&cursor.result).to_le_bytes());
    let crc = crc32c::crc32c(&out[..field::CRC.start]);
    out[field::CRC].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&cursor.result);
    out
}

fn decode(file: &dyn MediumFile, journal: &JournalId) -> std::result::Result<Cursor, String> {
    let io = |e: io::Error| e.to_string();
    let mut header = [0; HEADER];
    let n = read_full(file, 0, &mut header).map_err(io)?;
    if n < HEADER || header[field::MAGIC] != *MAGIC {
        return Err("it does not begin as a cursor does".to_owned());
    }
    let version = u16::from_le_bytes(array(&header, field::VERSION));
    if version != VERSION {
        return Err(format!(
            "it has version {version}, and this build reads {VERSION}"
        ));
    }
    let crc = crc32c::crc32c(&header[..field::CRC.start]);
    if crc.to_le_bytes() != header[field::CRC] {
        return Err("its header's checksum is wrong".to_owned());
    }
    if header[field::FEATURES] != [0; 6] {
        return Err("it uses features that this build does not know".to_owned());
    }
    if header[field::JOURNAL] != *journal {
        return Err("it is another journal's".to_owned());
    }
    let len = u64::from_le_bytes(array(&header, field::RESULT_LEN));
    let there = file.len().map_err(io)?.saturating_sub(HEADER as u64);
    if len > MAX_RESULT as u64 || len != there {
        return Err(format!("its result has {there} bytes where {len} were written"));
    }
    let mut result = vec![0; len as usize];
    let n = read_full(file, HEADER as u64, &mut result).map_err(io)?;
    let crc = crc32c::crc32c(&result[..n]).to_le_bytes();
    if n < result.len() || crc != header[field::RESULT_CRC] {
        return Err("its result's checksum is wrong".to_owned());
    }
    Ok(Cursor {
        position: u64::from_le_bytes(array(&header, field::POSITION)),
        result,
    })
}

fn array<const N: usize>(bytes: &[u8; HEADER], range: Range<usize>) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[range]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::sim::{Disk, Kind, Site};

    const JOURNAL: JournalId = [9; 16];

    fn cursor(n: u64) -> Cursor {
        Cursor {
            position: n,
            result: vec![n as u8; 600 + n as usize],
        }
    }

    /// Stores three cursors and crashes at every operation; twice.
    fn run(kind: Kind, omit: Option<Site>) -> std::result::Result<(), String> {
        let life = |disk: &Disk, first: u64, crash| {
            let medium = disk.reborn(crash);
            let mut acknowledged = None;
            let mut sent = first;
            for n in first..first + 3 {
                sent = n;
                if store(&medium, &JOURNAL, "p", &cursor(n)).is_err() {
                    break;
                }
                acknowledged = Some(n);
            }
            (medium.disk(), acknowledged, sent)
        };
        let seen = |disk: &Disk| {
            let found = load(&disk.reborn(u64::MAX), &JOURNAL, "p").map_err(|e| e.to_string())?;
            if found != Cursor::default() && found != cursor(found.position) {
                return Err(format!("cursor {} with another's result", found.position));
            }
            Ok(found.position)
        };
        let new = Disk::new(kind, omit);
        for crash in 0..=life(&new, 1, u64::MAX).0.ops() {
            let (dead, acknowledged, sent) = life(&new, 1, crash);
            for disk in dead.power_loss(64, crash + 1).chain([dead.clone()]) {
                let found = seen(&disk)?;
                let at_least = acknowledged.unwrap_or(0);
                if !(at_least..=sent).contains(&found) {
                    return Err(format!("{found} found, {at_least} acknowledged, {sent} sent"));
                }
                for again in 0..=life(&disk, 4, u64::MAX).0.ops() {
                    let (dead, acknowledged, sent) = life(&disk, 4, again);
                    for disk in dead.power_loss(16, again + 1) {
                        let found = seen(&disk)?;
                        if !(acknowledged.unwrap_or(at_least)..=sent).contains(&found) {
                            return Err(format!("{found} found in the third life"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn no_crash_loses_a_cursor_or_parts_it_from_its_result_and_each_sync_is_needed() {
        for kind in [Kind::PageCache, Kind::Pmem] {
            run(kind, None).unwrap();
            for site in [Site::SyncOfState, Site::SyncOfStateName] {
                println!("without {site:?}: {}", run(kind, Some(site)).unwrap_err());
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_an_error_and_never_a_new_beginning() {
        let medium = Disk::new(Kind::PageCache, None).reborn(u64::MAX);
        store(&medium, &JOURNAL, "p", &cursor(3)).unwrap();
        let disk = medium.disk();
        for at in 0..HEADER as u64 + 603 {
            let mut damaged = disk.clone();
            damaged.damage("projections/p.cursor", at);
            let found = load(&damaged.reborn(u64::MAX), &JOURNAL, "p");
            assert!(
                matches!(found, Err(Error::BadCursor { .. })),
                "byte {at}: {found:?}"
            );
        }
        let other = load(&medium, &[8; 16], "p");
        assert!(matches!(other, Err(Error::BadCursor { .. })));
    }
}

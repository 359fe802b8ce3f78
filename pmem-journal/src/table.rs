//! Files of sorted rows beside the segments (`docs/FORMAT.md`, "Tables"): indexes of sealed segments, and floors.
//!
//! A table is written once, whole, and then only read, a page at a time. Each page carries a checksum salted with
//! what table it belongs to and its number in it, so a page that is damaged, stale or misplaced is never believed.
//! Reading takes any bytes at all: it never panics, and holds one page in memory whatever the file says.

use std::io;

use crate::format::JournalId;
use crate::medium::{MediumFile, read_full};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a page that hold rows.
const ROWS: usize = 4080;
/// Sections a table has room for.
const SECTIONS: usize = 8;
const MAGIC: &[u8; 8] = b"PMJTABLE";
const VERSION: u16 = 1;
const DIRECTORY: usize = 128;

/// Which kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Index of one sealed segment: derived from it.
    SegmentIndex = 1,
    /// Each entity's last sequence in the segments that were dropped: derived from nothing that still exists.
    Floor = 2,
}

/// What a table speaks of; a table that speaks of anything else is not the one wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) kind: Kind,
    pub(crate) journal: JournalId,
    /// The segment indexed; of a floor, the first segment kept.
    pub(crate) segment: u64,
    /// Offset one past the segment's last record; of a floor 0.
    pub(crate) end: u64,
    /// Log position where the table's matter ends.
    pub(crate) log_end: u64,
    /// Position where the table's matter ends.
    pub(crate) next_position: u64,
    /// Epoch in force where the table's matter ends.
    pub(crate) epoch: u32,
}

impl Identity {
    fn salt(&self) -> u32 {
        let salt = crc32c::crc32c(&self.journal);
        let salt = crc32c::crc32c_append(salt, &(self.kind as u16).to_le_bytes());
        crc32c::crc32c_append(salt, &self.segment.to_le_bytes())
    }
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{cause}")]
    Damaged { offset: u64, cause: String },
}

fn damaged<T>(offset: u64, cause: impl Into<String>) -> Result<T, TableError> {
    let cause = cause.into();
    Err(TableError::Damaged { offset, cause })
}

#[derive(Clone, Copy, Debug, Default)]
struct Section {
    row: usize,
    first_page: u64,
    rows: u64,
}

impl Section {
    fn rows_of_page(&self) -> u64 {
        (ROWS / self.row) as u64
    }

    fn pages(&self) -> u64 {
        self.rows.div_ceil(self.rows_of_page())
    }
}

/// Builds a table in memory, section after section.
pub(crate) struct Builder {
    identity: Identity,
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

impl Builder {
    pub(crate) fn new(identity: Identity) -> Builder {
        Builder {
            identity,
            bytes: vec![0; PAGE],
            sections: Vec::new(),
        }
    }

    /// Adds a section of rows of `N` bytes, a divisor of a page's room for rows.
    pub(crate) fn section<const N: usize>(&mut self, rows: impl IntoIterator<Item = [u8; N]>) {
        const { assert!(N > 0 && N <= 64) };
        let mut section = Section {
            row: N,
            first_page: (self.bytes.len() / PAGE) as u64,
            rows: 0,
        };
        for row in rows {
            if section.rows.is_multiple_of(section.rows_of_page()) {
                self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
            }
            self.bytes.extend_from_slice(&row);
            section.rows += 1;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
        self.sections.push(section);
    }

    /// The file's bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let identity = self.identity;
        let out = &mut self.bytes;
        out[0..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&(identity.kind as u16).to_le_bytes());
        out[12..16].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
        out[16..32].copy_from_slice(&identity.journal);
        out[32..40].copy_from_slice(&identity.segment.to_le_bytes());
        out[40..48].copy_from_slice(&identity.end.to_le_bytes());
        out[48..56].copy_from_slice(&identity.log_end.to_le_bytes());
        out[56..64].copy_from_slice(&identity.next_position.to_le_bytes());
        out[64..68].copy_from_slice(&identity.epoch.to_le_bytes());
        for (section, at) in self.sections.iter().zip((DIRECTORY..).step_by(24)) {
            out[at..at + 8].copy_from_slice(&(section.row as u64).to_le_bytes());
            out[at + 8..at + 16].copy_from_slice(&section.first_page.to_le_bytes());
            out[at + 16..at + 24].copy_from_slice(&section.rows.to_le_bytes());
        }
        let salt = identity.salt();
        for (number, page) in out.chunks_exact_mut(PAGE).enumerate() {
            let crc = page_crc(salt, number as u64, &page[..PAGE - 4]);
            page[PAGE - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        self.bytes
    }
}

fn page_crc(salt: u32, number: u64, page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &number.to_le_bytes()), page)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

/// A table open for reading.
pub(crate) struct Table {
    file: Box<dyn MediumFile>,
    pub(crate) identity: Identity,
    salt: u32,
    sections: [Section; SECTIONS],
}

impl Table {
    /// The table in `file`, if its first page is right and says that it is of this kind, journal and segment.
    pub(crate) fn open(
        file: Box<dyn MediumFile>,
        kind: Kind,
        journal: Option<&JournalId>,
        segment: u64,
    ) -> Result<Table, TableError> {
        let mut page = [0; PAGE];
        if read_full(&*file, 0, &mut page)? < PAGE {
            return damaged(0, "shorter than a page");
        }
        if &page[0..8] != MAGIC || page[8..10] != VERSION.to_le_bytes() {
            return damaged(0, "not a table of version 1");
        }
        let mut id = JournalId::default();
        id.copy_from_slice(&page[16..32]);
        let found_kind = u16::from_le_bytes([page[10], page[11]]);
        let identity = Identity {
            kind,
            journal: id,
            segment,
            end: u64_at(&page, 40),
            log_end: u64_at(&page, 48),
            next_position: u64_at(&page, 56),
            epoch: u64_at(&page, 64) as u32,
        };
        if found_kind != kind as u16 || u64_at(&page, 32) != segment || journal.is_some_and(|j| *j != id) {
            return damaged(0, "it speaks of another journal or segment");
        }
        let salt = identity.salt();
        check_page(salt, 0, &page)?;
        let mut sections = [Section::default(); SECTIONS];
        let len = file.len()?;
        for (section, at) in sections.iter_mut().zip((DIRECTORY..).step_by(24)) {
            let row = u64_at(&page, at);
            if row == 0 {
                break;
            }
            *section = Section {
                row: row.min(u64::from(u32::MAX)) as usize,
                first_page: u64_at(&page, at + 8),
                rows: u64_at(&page, at + 16),
            };
            let fits = row <= 64
                && section.rows <= len
                && (section.first_page.checked_add(section.pages()))
                    .and_then(|pages| pages.checked_mul(PAGE as u64))
                    .is_some_and(|end| end <= len);
            if !fits {
                return damaged(at as u64, "a section beyond the end of the file");
            }
        }
        Ok(Table {
            file,
            identity,
            salt,
            sections,
        })
    }

    /// Rows of a section; 0 if the table has no such section with rows of `N` bytes.
    pub(crate) fn rows<const N: usize>(&self, section: usize) -> u64 {
        match self.sections.get(section) {
            Some(section) if section.row == N => section.rows,
            _ => 0,
        }
    }

    /// A place to read rows of `N` bytes of a section from.
    pub(crate) fn cursor<const N: usize>(&self, section: usize) -> Cursor<'_, N> {
        let rows = self.rows::<N>(section);
        Cursor {
            table: self,
            section: Section {
                rows,
                row: N,
                ..self.sections.get(section).copied().unwrap_or_default()
            },
            page: Box::new([0; PAGE]),
            held: None,
        }
    }
}

fn check_page(salt: u32, number: u64, page: &[u8; PAGE]) -> Result<(), TableError> {
    let (rows, crc) = page.split_at(PAGE - 4);
    if page_crc(salt, number, rows).to_le_bytes() == *crc {
        Ok(())
    } else {
        damaged(number * PAGE as u64, "a page's checksum is wrong")
    }
}

/// Reads rows of one section; the page it stands in is read and checked once.
pub(crate) struct Cursor<'a, const N: usize> {
    table: &'a Table,
    section: Section,
    page: Box<[u8; PAGE]>,
    held: Option<u64>,
}

impl<const N: usize> Cursor<'_, N> {
    pub(crate) fn rows(&self) -> u64 {
        self.section.rows
    }

    /// Row `n`, which is below [`Cursor::rows`].
    pub(crate) fn row(&mut self, n: u64) -> Result<[u8; N], TableError> {
        if n >= self.section.rows {
            return damaged(0, format!("row {n} of a section of {}", self.section.rows));
        }
        let of_page = self.section.rows_of_page();
        let number = self.section.first_page + n / of_page;
        if self.held != Some(number) {
            self.held = None;
            let at = number * PAGE as u64;
            if read_full(&*self.table.file, at, &mut self.page[..])? < PAGE {
                return damaged(at, "the file ends inside a page");
            }
            check_page(self.table.salt, number, &self.page)?;
            self.held = Some(number);
        }
        let at = (n % of_page) as usize * N;
        let mut row = [0; N];
        row.copy_from_slice(&self.page[at..at + N]);
        Ok(row)
    }

    /// The first row for which `before` is false, in a section sorted so that those for which it is true come first.
    pub(crate) fn partition(&mut self, before: impl Fn(&[u8; N]) -> bool) -> Result<u64, TableError> {
        let (mut low, mut high) = (0, self.section.rows);
        while low < high {
            let mut middle = low + (high - low) / 2;
            // The first row of a page decides between pages; the rest is decided without reading another.
            let of_page = self.section.rows_of_page();
            if low / of_page != (high - 1) / of_page && middle / of_page != low / of_page {
                middle -= middle % of_page;
            }
            if before(&self.row(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::sim::{Disk, Kind as SimKind};
    use crate::medium::{Access, Medium};

    fn identity() -> Identity {
        Identity {
            kind: Kind::SegmentIndex,
            journal: [3; 16],
            segment: 5,
            end: 4096,
            log_end: 77,
            next_position: 9,
            epoch: 2,
        }
    }

    fn stored(bytes: &[u8]) -> Box<dyn MediumFile> {
        let medium = Disk::new(SimKind::PageCache, None).reborn(u64::MAX);
        medium.store("t", bytes).unwrap();
        medium.open("t", Access::Read).unwrap()
    }

    fn built(rows: u32) -> Vec<u8> {
        let mut builder = Builder::new(identity());
        builder.section((0..rows).map(|n| u64::from(n * 2).to_le_bytes()));
        builder.section((0..3u32).map(u32::to_le_bytes));
        builder.finish()
    }

    #[test]
    fn rows_come_back_and_are_found_whatever_their_number() {
        for rows in [0, 1, 509, 510, 511, 1020, 5000] {
            let table = Table::open(stored(&built(rows)), Kind::SegmentIndex, Some(&[3; 16]), 5).unwrap();
            assert_eq!(table.identity, identity());
            assert_eq!(table.rows::<8>(0), u64::from(rows));
            let mut cursor = table.cursor::<8>(0);
            for wanted in [
                0, 1, 2, 999, 1000, 1017, 1018, 1019, 1020, 1021, 9998, 9999, 20_000,
            ] {
                let found = cursor.partition(|row| u64::from_le_bytes(*row) < wanted).unwrap();
                assert_eq!(
                    found,
                    wanted.div_ceil(2).min(u64::from(rows)),
                    "{wanted} of {rows}"
                );
            }
            assert_eq!(table.cursor::<4>(1).row(2).unwrap(), 2u32.to_le_bytes());
            assert_eq!(table.rows::<16>(0), 0, "rows of another size");
            assert!(cursor.row(u64::from(rows)).is_err());
        }
    }

    #[test]
    fn every_flipped_byte_is_an_error_or_changes_nothing() {
        let good = built(600);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            let Ok(table) = Table::open(stored(&bytes), Kind::SegmentIndex, Some(&[3; 16]), 5) else {
                continue;
            };
            let mut cursor = table.cursor::<8>(0);
            let rows: Result<Vec<_>, _> = (0..600).map(|n| cursor.row(n)).collect();
            let other: Result<Vec<_>, _> = (0..3).map(|n| table.cursor::<4>(1).row(n)).collect();
            assert!(rows.is_err() || other.is_err(), "byte {at}");
        }
        let moved = [
            &good[..PAGE],
            &good[2 * PAGE..3 * PAGE],
            &good[PAGE..2 * PAGE],
            &good[3 * PAGE..],
        ]
        .concat();
        let table = Table::open(stored(&moved), Kind::SegmentIndex, None, 5).unwrap();
        assert!(table.cursor::<8>(0).row(0).is_err(), "a page in another's place");
        assert!(Table::open(stored(&good), Kind::Floor, None, 5).is_err());
        assert!(Table::open(stored(&good), Kind::SegmentIndex, None, 6).is_err());
        assert!(Table::open(stored(&good), Kind::SegmentIndex, Some(&[4; 16]), 5).is_err());
    }
}

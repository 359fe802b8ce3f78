//! The index of one sealed segment (`docs/FORMAT.md`, "Segment index"): which entities, keys and tags are in it and
//! where. Derived from the segment alone: it may be deleted at any time, and is made again.

mod build;

use std::sync::Arc;

use crate::filter::{self, BLOCK, Filter};
use crate::format::ALIGN;
use crate::medium::MediumFile;
use crate::sealed_records::Sealed;
use crate::segment::DATA;
use crate::table::{Identity, Kind, Table, TableError};

const SUFFIX: &str = ".idx";
/// Sections, in order.
const ENTITIES: usize = 0;
const KEYS: usize = 1;
const TAGS: usize = 2;
const PLACES: usize = 3;
const POSITIONS: usize = 4;
const FILTER: usize = 5;
/// A position is noted at the first batch that begins this many events after the last one noted.
const STRIDE: u64 = 64;

/// Name of the index of segment `index`.
pub(crate) fn name(index: u64) -> String {
    format!("{index:016x}{SUFFIX}")
}

/// The segment an index belongs to, by its name; `None` for any other file.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    let index = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    Some(index).filter(|index| self::name(*index) == name)
}

/// What the index of the segment says of it.
fn identity(segment: &Sealed) -> Identity {
    let Sealed { header, footer, .. } = segment;
    Identity {
        kind: Kind::SegmentIndex,
        journal: header.journal,
        segment: header.index,
        end: footer.end,
        log_end: footer.log_end,
        next_position: footer.next_position,
        epoch: footer.epoch,
    }
}

fn u64_of(row: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&row[at..at + 8]);
    u64::from_le_bytes(out)
}

fn u32_of(row: &[u8], at: usize) -> u32 {
    u64_of(row, at - 4).checked_shr(32).unwrap_or(0) as u32
}

fn entity_of(row: &[u8; 32]) -> u128 {
    u128::from(u64_of(row, 0)) | u128::from(u64_of(row, 8)) << 64
}

/// Where events of one entity or tag stand in a segment.
pub(crate) struct Places {
    next: u64,
    end: u64,
}

/// An index open for looking up; only its filter is in memory.
pub(crate) struct SegmentIndex {
    table: Table,
    filter: Arc<Filter>,
    size: u64,
}

impl SegmentIndex {
    /// Opens the index in `file` if it is right and belongs to the segment.
    pub(crate) fn open(
        file: Box<dyn MediumFile>,
        segment: &Sealed,
    ) -> std::result::Result<SegmentIndex, TableError> {
        let header = &segment.header;
        let table = Table::open(file, Kind::SegmentIndex, Some(&header.journal), header.index)?;
        if table.identity != identity(segment) {
            return Err(TableError::Damaged {
                offset: 0,
                cause: "it speaks of the segment as it was before".to_owned(),
            });
        }
        let mut rows = table.cursor::<BLOCK>(FILTER);
        let blocks: std::result::Result<Vec<_>, _> = (0..rows.rows()).map(|n| rows.row(n)).collect();
        let filter = Arc::new(Filter::of_rows(blocks?.into_iter()));
        let size = header.size;
        Ok(SegmentIndex { table, filter, size })
    }

    pub(crate) fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    fn entity_row(&self, entity: u128) -> std::result::Result<Option<[u8; 32]>, TableError> {
        if !self.filter.may_hold(filter::hash_entity(entity)) {
            return Ok(None);
        }
        let mut rows = self.table.cursor::<32>(ENTITIES);
        let at = rows.partition(|row| entity_of(row) < entity)?;
        if at == rows.rows() {
            return Ok(None);
        }
        Ok(Some(rows.row(at)?).filter(|row| entity_of(row) == entity))
    }

    /// The entity's last sequence in this segment.
    pub(crate) fn sequence(&self, entity: u128) -> std::result::Result<Option<u64>, TableError> {
        Ok(self.entity_row(entity)?.map(|row| u64_of(&row, 16)))
    }

    /// Every entity with its last sequence in this segment.
    pub(crate) fn for_each_entity(
        &self,
        mut each: impl FnMut(u128, u64),
    ) -> std::result::Result<(), TableError> {
        let mut rows = self.table.cursor::<32>(ENTITIES);
        for n in 0..rows.rows() {
            let row = rows.row(n)?;
            each(entity_of(&row), u64_of(&row, 16));
        }
        Ok(())
    }

    /// Where events of the entity stand.
    pub(crate) fn of_entity(&self, entity: u128) -> std::result::Result<Places, TableError> {
        let row = self.entity_row(entity)?;
        Ok(row.map_or(Places::none(), |row| Places::of(&row[24..])))
    }

    /// Where events with a tag of this hash stand: those with the tag, and perhaps others.
    pub(crate) fn of_tag(&self, tag: &str) -> std::result::Result<Places, TableError> {
        let hash = filter::hash_tag(tag.as_bytes());
        let mut rows = self.table.cursor::<16>(TAGS);
        if self.filter.may_hold(hash) {
            let at = rows.partition(|row| u64_of(row, 0) < hash)?;
            if at < rows.rows() {
                let row = rows.row(at)?;
                if u64_of(&row, 0) == hash {
                    return Ok(Places::of(&row[8..]));
                }
            }
        }
        Ok(Places::none())
    }

    /// Offsets of the next places: some, or none at the end.
    pub(crate) fn next_places(&self, places: &Places) -> std::result::Result<Vec<u64>, TableError> {
        let mut rows = self.table.cursor::<4>(PLACES);
        (places.next..places.end.min(places.next + 256))
            .map(|n| self.offset(u32::from_le_bytes(rows.row(n)?)))
            .collect()
    }

    /// Skips places before `offset`, in which the places of one entity or tag rise.
    pub(crate) fn skip_to(&self, places: &mut Places, offset: u64) -> std::result::Result<(), TableError> {
        let mut rows = self.table.cursor::<4>(PLACES);
        let (mut low, mut high) = (places.next, places.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if u64::from(u32::from_le_bytes(rows.row(middle)?)) * (ALIGN as u64) < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        places.next = low;
        Ok(())
    }

    /// Where batches with this key may begin, and where in them the event that carries it stands.
    pub(crate) fn of_key(&self, entity: u128, key: u128) -> std::result::Result<Vec<(u64, u64)>, TableError> {
        let hash = filter::hash_key(entity, key);
        let mut found = Vec::new();
        if !self.filter.may_hold(hash) {
            return Ok(found);
        }
        let mut rows = self.table.cursor::<16>(KEYS);
        for n in rows.partition(|row| u64_of(row, 0) < hash)?..rows.rows() {
            let row = rows.row(n)?;
            if u64_of(&row, 0) != hash {
                break;
            }
            found.push((self.offset(u32_of(&row, 8))?, self.offset(u32_of(&row, 12))?));
        }
        Ok(found)
    }

    /// Offset of the last noted batch that begins at or below `position`; `None`: begin at the segment's start.
    pub(crate) fn start_below(&self, position: u64) -> std::result::Result<Option<u64>, TableError> {
        let mut rows = self.table.cursor::<16>(POSITIONS);
        let after = rows.partition(|row| u64_of(row, 0) <= position)?;
        let Some(n) = after.checked_sub(1) else {
            return Ok(None);
        };
        self.offset(u32_of(&rows.row(n)?, 8)).map(Some)
    }

    fn offset(&self, place: u32) -> std::result::Result<u64, TableError> {
        let offset = u64::from(place) * ALIGN as u64;
        if (DATA..self.size).contains(&offset) {
            return Ok(offset);
        }
        Err(TableError::Damaged {
            offset: 0,
            cause: format!("a record at byte {offset} of a segment of {}", self.size),
        })
    }
}

impl Places {
    pub(crate) fn none() -> Places {
        Places { next: 0, end: 0 }
    }

    pub(crate) fn skip(&mut self, n: usize) {
        self.next += n as u64;
    }

    fn of(row: &[u8]) -> Places {
        let (first, count) = (u64_of(row, 0) as u32, u64_of(row, 0) >> 32);
        Places {
            next: u64::from(first),
            end: u64::from(first) + count,
        }
    }
}

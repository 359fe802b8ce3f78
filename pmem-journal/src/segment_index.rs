//! The index of one sealed segment (`docs/FORMAT.md`, "Segment index"): which entities, keys and tags are in it and
//! where. Derived from the segment alone: it may be deleted at any time, and is made again.

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filter::{self, BLOCK, Filter};
use crate::format::{ALIGN, FLAG_BATCH_END, FLAG_BATCH_START, Header as Record};
use crate::index::Span;
use crate::medium::{Access, Medium, MediumFile};
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, DATA, Footer, Header};
use crate::table::{Builder, Identity, Kind, Table, TableError};

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

/// A sealed segment: its file, and what its two ends say.
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) file: Box<dyn MediumFile>,
    pub(crate) header: Header,
    pub(crate) footer: Footer,
}

impl Sealed {
    /// Opens segment `index`; `None` if it is not sealed.
    pub(crate) fn open(medium: &dyn Medium, index: u64) -> Result<Option<Sealed>> {
        let name = segment::name(index);
        let file = medium
            .open(&name, Access::Read)
            .map_err(Error::io("open", &name))?;
        let header = Header::read(&*file, &name)?;
        let footer = Footer::read(&*file, &header).map_err(Error::io("read", &name))?;
        Ok(footer.map(|footer| Sealed {
            name,
            file,
            header,
            footer,
        }))
    }

    pub(crate) fn corrupt(&self, offset: u64, cause: impl ToString) -> Error {
        Error::Corruption {
            segment: self.name.clone(),
            offset,
            cause: cause.to_string(),
        }
    }

    /// Calls `each` with every event's record, its offset and its bytes. Damage is corruption.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Record, u64, &[u8])) -> Result<()> {
        let mut scanner = Scanner::new(&self.header, self.footer.end, Checks::ALL);
        loop {
            let at = scanner.offset;
            match scanner.step(&*self.file).map_err(Error::io("read", &self.name))? {
                Step::Record => {
                    let record = scanner.header();
                    if !record.is_control() {
                        each(record, at, scanner.record());
                    }
                }
                Step::End if at == self.footer.end => return Ok(()),
                Step::End => return Err(self.corrupt(at, "nothing is written where something was durable")),
                Step::Invalid(cause) => return Err(self.corrupt(at, cause)),
            }
        }
    }

    /// The batch that begins at offset `batch`, if its event at offset `event` is of this entity and key.
    pub(crate) fn span(&self, batch: u64, event: u64, entity: u128, key: u128) -> Result<Option<Span>> {
        let mut scanner = Scanner::in_the_middle(&self.header, self.footer.end, batch);
        let mut found = false;
        let mut first = None;
        loop {
            let at = scanner.offset;
            match scanner.step(&*self.file).map_err(Error::io("read", &self.name))? {
                Step::Record => {
                    let record = scanner.header();
                    let record_key = record.key(scanner.record());
                    found |= at == event && record.entity == entity && record_key == key;
                    let first = *first.get_or_insert(record.position);
                    if record.flags & FLAG_BATCH_END != 0 {
                        return Ok(found.then_some(Span {
                            first,
                            last: record.position,
                            sequence: record.sequence,
                        }));
                    }
                }
                Step::End => return Err(self.corrupt(at, "a batch without its end")),
                Step::Invalid(cause) => return Err(self.corrupt(at, cause)),
            }
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            kind: Kind::SegmentIndex,
            journal: self.header.journal,
            segment: self.header.index,
            end: self.footer.end,
            log_end: self.footer.log_end,
            next_position: self.footer.next_position,
            epoch: self.footer.epoch,
        }
    }

    /// The bytes of its index, from its records.
    pub(crate) fn build_index(&self) -> Result<Vec<u8>> {
        let mut entities: Vec<(u128, u32, u64)> = Vec::new();
        let mut keys: Vec<(u64, u32, u32)> = Vec::new();
        let mut tags: Vec<(u64, u32)> = Vec::new();
        let mut positions: Vec<(u64, u32)> = Vec::new();
        let mut batch = 0;
        let mut due = 0;
        self.for_each(|record, offset, bytes| {
            let place = (offset / ALIGN as u64) as u32;
            if record.flags & FLAG_BATCH_START != 0 {
                batch = place;
                if record.position >= due {
                    positions.push((record.position, place));
                    due = record.position + STRIDE;
                }
            }
            entities.push((record.entity, place, record.sequence));
            let key = record.key(bytes);
            if key != 0 {
                keys.push((filter::hash_key(record.entity, key), batch, place));
            }
            if record.extension_len != 0 {
                let event = record.event(bytes);
                tags.extend(event.tags().map(|tag| (filter::hash_tag(tag.as_bytes()), place)));
            }
        })?;
        entities.sort_unstable();
        keys.sort_unstable();
        tags.sort_unstable();
        tags.dedup();
        let groups = |same: &dyn Fn(usize, usize) -> bool, len: usize| {
            let mut starts = Vec::new();
            for n in 0..len {
                if n == 0 || !same(n - 1, n) {
                    starts.push(n);
                }
            }
            starts
        };
        let of_entity = groups(&|a, b| entities[a].0 == entities[b].0, entities.len());
        let of_tag = groups(&|a, b| tags[a].0 == tags[b].0, tags.len());
        let mut filter = Filter::for_items(of_entity.len() + of_tag.len() + keys.len());
        let count = |starts: &[usize], n: usize, len: usize| {
            (starts.get(n + 1).copied().unwrap_or(len) - starts[n]) as u32
        };
        let mut table = Builder::new(self.identity());
        table.section(of_entity.iter().enumerate().map(|(n, start)| {
            let count = count(&of_entity, n, entities.len());
            let (entity, _, _) = entities[*start];
            let (_, _, last) = entities[start + count as usize - 1];
            filter.insert(filter::hash_entity(entity));
            let mut row = [0; 32];
            row[..16].copy_from_slice(&entity.to_le_bytes());
            row[16..24].copy_from_slice(&last.to_le_bytes());
            row[24..28].copy_from_slice(&(*start as u32).to_le_bytes());
            row[28..].copy_from_slice(&count.to_le_bytes());
            row
        }));
        table.section(keys.iter().map(|(hash, batch, place)| {
            filter.insert(*hash);
            row16(*hash, *batch, *place)
        }));
        table.section(of_tag.iter().enumerate().map(|(n, start)| {
            let (hash, _) = tags[*start];
            filter.insert(hash);
            let first = (entities.len() + start) as u32;
            row16(hash, first, count(&of_tag, n, tags.len()))
        }));
        let places = entities.iter().map(|(_, place, _)| *place);
        table.section(
            places
                .chain(tags.iter().map(|(_, place)| *place))
                .map(u32::to_le_bytes),
        );
        table.section(
            positions
                .iter()
                .map(|(position, place)| row16(*position, *place, 0)),
        );
        table.section(filter.rows());
        Ok(table.finish())
    }
}

fn row16(a: u64, b: u32, c: u32) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&a.to_le_bytes());
    row[8..12].copy_from_slice(&b.to_le_bytes());
    row[12..].copy_from_slice(&c.to_le_bytes());
    row
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
        if table.identity != segment.identity() {
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

/// A file in memory: an index of a segment where none may be written.
pub(crate) struct InMemory(pub(crate) Vec<u8>);

impl MediumFile for InMemory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| self.0.get(at..))
            .unwrap_or(&[]);
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn commit(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

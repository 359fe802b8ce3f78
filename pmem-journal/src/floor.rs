//! Dropping the oldest segments, and what is kept of them: the floor.
//!
//! A floor file holds the last sequence of every entity in the segments below it, so that sequences go on without a
//! gap after the events themselves are gone. It is durable before the first segment is removed, and its name says
//! which segment is the first kept: a segment below it is a leftover, a segment missing above it is corruption.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::medium::{Access, Medium};
use crate::reserve::Reserve;
use crate::segment::{self, Header};
use crate::segment_index;
use crate::table::{Builder, Identity, Kind, Table, TableError};

const SUFFIX: &str = ".floor";
/// Section of a floor: entity id, last sequence, zero; sorted by entity id.
const ENTITIES: usize = 0;
const ROW: usize = 32;

/// Name of the floor below which segments before `first` were dropped.
pub(crate) fn name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The first segment kept, by a floor's name; `None` for any other file.
pub(crate) fn index_of(name: &str) -> Option<u64> {
    let index = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    Some(index).filter(|index| self::name(*index) == name)
}

/// What is known of the segments that were dropped.
pub(crate) struct Floor {
    name: String,
    table: Table,
}

impl Floor {
    pub(crate) fn open(medium: &dyn Medium, first: u64) -> Result<Floor> {
        let name = name(first);
        let file = medium
            .open(&name, Access::Read)
            .map_err(Error::io("open", &name))?;
        match Table::open(file, Kind::Floor, None, first) {
            Ok(table) => Ok(Floor { name, table }),
            Err(e) => Err(refused(&name)(e)),
        }
    }

    /// Compaction had taken events out of what was dropped: an entity's next sequence may be higher than its row says.
    pub(crate) fn has_gaps(&self) -> bool {
        self.table.identity.end != 0
    }

    /// Refuses a first segment that does not go on where the dropped ones ended.
    pub(crate) fn check(&self, header: &Header) -> Result<()> {
        let below = &self.table.identity;
        let follows = header.journal == below.journal
            && header.base == below.log_end
            && header.first_position == below.next_position
            && header.epoch >= below.epoch;
        if follows {
            return Ok(());
        }
        let cause = "the first segment kept does not go on where it ends";
        Err(Error::corruption(&self.name, 0, cause))
    }

    /// The last sequence of an entity among the dropped events; 0 if it had none.
    pub(crate) fn sequence(&self, entity: u128) -> Result<u64> {
        let find = || {
            let mut rows = self.table.cursor::<ROW>(ENTITIES);
            let at = rows.partition(|row| decode(row).0 < entity)?;
            if at == rows.rows() {
                return Ok(0);
            }
            let (found, sequence) = decode(&rows.row(at)?);
            Ok(if found == entity { sequence } else { 0 })
        };
        find().map_err(refused(&self.name))
    }

    /// All entities with their last sequences, in order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(u128, u64)) -> Result<()> {
        let mut rows = self.table.cursor::<ROW>(ENTITIES);
        for n in 0..rows.rows() {
            let row = rows.row(n).map_err(refused(&self.name))?;
            let (entity, sequence) = decode(&row);
            each(entity, sequence);
        }
        Ok(())
    }
}

/// Makes the floor below `first` durable. `gaps`: compaction had taken events out of what is dropped. From then on the segments before it do not belong to the journal.
pub(crate) fn store(
    reserve: &Reserve,
    first: &Header,
    sequences: &BTreeMap<u128, u64>,
    gaps: bool,
) -> Result<()> {
    let mut table = Builder::new(Identity {
        kind: Kind::Floor,
        journal: first.journal,
        segment: first.index,
        end: u64::from(gaps),
        log_end: first.base,
        next_position: first.first_position,
        epoch: first.epoch,
    });
    table.section(
        sequences
            .iter()
            .map(|(entity, sequence)| encode(*entity, *sequence)),
    );
    let name = name(first.index);
    let bytes = table.finish();
    reserve
        .store(&name, &bytes)
        .and_then(|()| reserve.medium().sync_dir())
        .map_err(Error::writing(name, bytes.len() as u64))
}

/// Whether the file belongs to what a floor made superfluous: segments below it, their indexes, older floors.
pub(crate) fn is_below(file: &str, first: u64) -> bool {
    let index = segment::index_of(file)
        .or_else(|| segment_index::index_of(file))
        .or_else(|| index_of(file));
    index.is_some_and(|index| index < first)
}

fn encode(entity: u128, sequence: u64) -> [u8; ROW] {
    let mut row = [0; ROW];
    row[..16].copy_from_slice(&entity.to_le_bytes());
    row[16..24].copy_from_slice(&sequence.to_le_bytes());
    row
}

fn decode(row: &[u8; ROW]) -> (u128, u64) {
    let mut entity = [0; 16];
    entity.copy_from_slice(&row[..16]);
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&row[16..24]);
    (u128::from_le_bytes(entity), u64::from_le_bytes(sequence))
}

/// A floor cannot be made again: its damage is corruption of the journal.
fn refused(name: &str) -> impl FnOnce(TableError) -> Error {
    let name = name.to_owned();
    move |e| match e {
        TableError::Io(source) => Error::io("read", name)(source),
        TableError::Damaged { offset, cause } => Error::corruption(name, offset, cause),
    }
}

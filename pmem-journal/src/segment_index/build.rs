//! Making an index from the records of its segment.

use super::{STRIDE, identity};
use crate::error::Result;
use crate::filter::{self, Filter};
use crate::format::{ALIGN, FLAG_BATCH_START};
use crate::sealed_records::Sealed;
use crate::table::Builder;

impl Sealed {
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
        let mut table = Builder::new(identity(self));
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

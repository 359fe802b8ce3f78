//! What an append must know of the past: each entity's last sequence, and where each idempotency key was used.
//!
//! Derived data, all of it: of the segment being written it is learned from the records at every open, of sealed
//! segments it stands in their indexes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::filter;
use crate::floor::Floor;
use crate::format::{FLAG_BATCH_END, FLAG_BATCH_START, Header, Invalid};
use crate::indexes::Indexes;
use crate::recover::Learner;
use crate::span::Span;

/// Hashes ids that may be chosen by strangers: a folded multiply under a seed of this process.
#[derive(Clone)]
pub(crate) struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded(std::hash::RandomState::new().hash_one(0u8) | 1)
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

pub(crate) struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product as u64) ^ (product >> 64) as u64 ^ self.0.rotate_left(29);
    }

    fn write_u128(&mut self, id: u128) {
        self.write_u64(id as u64);
        self.write_u64((id >> 64) as u64);
    }
}

/// What the records of one segment say: each entity's last sequence, and the batch of each key.
#[derive(Default)]
pub(crate) struct Learned {
    entities: HashMap<u128, u64, Seeded>,
    keys: HashMap<(u128, u128), Span, Seeded>,
    batch: Vec<(u128, u128)>,
    batch_first: u64,
}

impl Learner for Learned {
    fn learn(&mut self, header: &Header, record: &[u8]) -> std::result::Result<(), Invalid> {
        if header.flags & FLAG_BATCH_START != 0 {
            self.batch.clear();
            self.batch_first = header.position;
        }
        // Of an entity not seen in this segment the first record is believed: what came before is not read.
        let known = self.entities.get(&header.entity).copied();
        let expected = known.map_or(header.sequence.max(1), |known| known + 1);
        if header.sequence != expected {
            return Err(Invalid::Sequence {
                found: header.sequence,
                expected,
            });
        }
        self.entities.insert(header.entity, header.sequence);
        self.batch.push((header.entity, header.key(record)));
        if header.flags & FLAG_BATCH_END != 0 {
            let span = Span {
                first: self.batch_first,
                last: header.position,
                sequence: header.sequence,
            };
            for (entity, key) in self.batch.drain(..).filter(|(_, key)| *key != 0) {
                self.keys.insert((entity, key), span);
            }
        }
        Ok(())
    }

    fn forget_batch(&mut self) {
        for (entity, _) in std::mem::take(&mut self.batch) {
            if let Some(sequence) = self.entities.get_mut(&entity) {
                *sequence -= 1;
                if *sequence == 0 {
                    self.entities.remove(&entity);
                }
            }
        }
    }
}

/// What an append must know: of the segment being written from memory, of sealed ones from their indexes, of dropped
/// ones from the floor.
///
/// In memory: entities and keys of the segment being written and of those sealed a moment ago, and the filters of
/// the sealed ones that were asked (`indexes.rs`).
pub(crate) struct Index {
    active: Learned,
    past: Past,
}

/// What the segments before the one being written know.
struct Past {
    /// Sealed, and not yet known to have an index: the newest segments but the active one, oldest first.
    recent: VecDeque<(u64, Learned)>,
    /// Sealed, with an index.
    sealed: Range<u64>,
    indexes: Arc<Indexes>,
    floor: Option<Floor>,
}

impl Past {
    /// The entity's last sequence; 0 if it had no event.
    #[cold]
    fn sequence(&self, entity: u128) -> Result<u64> {
        for (_, learned) in self.recent.iter().rev() {
            if let Some(sequence) = learned.entities.get(&entity) {
                return Ok(*sequence);
            }
        }
        let hash = filter::hash_entity(entity);
        for segment in self.sealed.clone().rev() {
            if self.indexes.may_hold(segment, hash)?
                && let Some(sequence) = self.indexes.look(segment, |at| at.index.sequence(entity))?
            {
                return Ok(sequence);
            }
        }
        self.floor.as_ref().map_or(Ok(0), |floor| floor.sequence(entity))
    }
}

impl Index {
    /// Of a journal whose sealed segments are `sealed`, and whose active one was read.
    pub(crate) fn new(
        active: Learned,
        sealed: Range<u64>,
        indexes: Arc<Indexes>,
        floor: Option<Floor>,
    ) -> Index {
        Index {
            active,
            past: Past {
                recent: VecDeque::new(),
                sealed,
                indexes,
                floor,
            },
        }
    }

    /// The entity's last sequence; 0 if it never had an event.
    pub(crate) fn sequence(&self, entity: u128) -> Result<u64> {
        match self.active.entities.get(&entity) {
            Some(sequence) => Ok(*sequence),
            None => self.past.sequence(entity),
        }
    }

    /// The batch that the entity and key were appended in.
    pub(crate) fn span(&self, entity: u128, key: u128) -> Result<Option<Span>> {
        let learned = self.past.recent.iter().map(|(_, learned)| learned).rev();
        for learned in std::iter::once(&self.active).chain(learned) {
            if let Some(span) = learned.keys.get(&(entity, key)) {
                return Ok(Some(*span));
            }
        }
        let hash = filter::hash_key(entity, key);
        for segment in self.past.sealed.clone().rev() {
            if !self.past.indexes.may_hold(segment, hash)? {
                continue;
            }
            let (places, at) = self
                .past
                .indexes
                .look(segment, |at| Ok((at.index.of_key(entity, key)?, Arc::clone(at))))?;
            for (batch, event) in places {
                if let Some(span) = at.segment.span(batch, event, entity, key)? {
                    return Ok(Some(span));
                }
            }
        }
        Ok(None)
    }

    /// The entity's last sequence, to be counted up.
    #[inline]
    pub(crate) fn loaded(&mut self, entity: u128) -> Result<&mut u64> {
        match self.active.entities.entry(entity) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => Ok(unknown.insert(self.past.sequence(entity)?)),
        }
    }

    /// Makes sure that the entity's sequence is in memory, so that taking the next cannot fail.
    pub(crate) fn load(&mut self, entity: u128) -> Result<()> {
        self.loaded(entity).map(drop)
    }

    /// The loaded entity's last sequence, to be counted up.
    pub(crate) fn sequence_mut(&mut self, entity: u128) -> &mut u64 {
        self.active.entities.entry(entity).or_insert(0)
    }

    pub(crate) fn remember(&mut self, entity: u128, key: u128, span: Span) {
        self.active.keys.insert((entity, key), span);
    }

    /// The active segment `index` is sealed, and another is begun. Answers which segments still have no index.
    pub(crate) fn seal(&mut self, index: u64) {
        self.past
            .recent
            .push_back((index, std::mem::take(&mut self.active)));
    }

    /// Segment `index` has its index now: what was kept of it in memory goes.
    pub(crate) fn indexed(&mut self, index: u64) {
        while let Some((oldest, _)) = self.past.recent.front()
            && *oldest <= index
        {
            self.past.sealed.end = oldest + 1;
            self.past.recent.pop_front();
        }
    }

    /// Segments sealed and kept in memory until they have an index.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u64> {
        self.past.recent.iter().map(|(index, _)| *index)
    }

    pub(crate) fn indexes(&self) -> &Arc<Indexes> {
        &self.past.indexes
    }

    /// Segments below `first` were dropped, and the floor speaks for them.
    pub(crate) fn dropped(&mut self, first: u64, floor: Floor) {
        for segment in self.past.sealed.start..first {
            self.past.indexes.forget(segment);
        }
        self.past.sealed.start = first;
        self.past.sealed.end = self.past.sealed.end.max(first);
        self.past.recent.retain(|(index, _)| *index >= first);
        self.past.floor = Some(floor);
    }
}

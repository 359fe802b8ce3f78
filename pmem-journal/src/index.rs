//! What an append must know of the past: each entity's last sequence, and where each idempotency key was used.
//!
//! Derived data: rebuilt from the records at every open, never written.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use crate::event::Appended;
use crate::format::{FLAG_BATCH_END, FLAG_BATCH_START, Header, Invalid};

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

/// The batch that a key was used in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) sequence: u64,
}

impl Span {
    pub(crate) fn appended(self, duplicate: bool) -> Appended {
        Appended {
            first_position: self.first,
            last_position: self.last,
            sequence: self.sequence,
            duplicate,
        }
    }
}

/// Entities and keys.
#[derive(Default)]
pub(crate) struct Index {
    entities: HashMap<u128, u64, Seeded>,
    keys: HashMap<(u128, u128), Span, Seeded>,
    batch: Vec<(u128, u128)>,
    batch_first: u64,
    /// The journal begins in the middle of histories: older segments were dropped, or are not looked at.
    pub(crate) partial: bool,
}

impl Index {
    /// The entity's last sequence; 0 if it has no event.
    pub(crate) fn sequence(&self, entity: u128) -> u64 {
        self.entities.get(&entity).copied().unwrap_or(0)
    }

    pub(crate) fn set_sequence(&mut self, entity: u128, sequence: u64) {
        self.entities.insert(entity, sequence);
    }

    pub(crate) fn span(&self, entity: u128, key: u128) -> Option<Span> {
        self.keys.get(&(entity, key)).copied()
    }

    /// The next sequence of the entity, taken.
    pub(crate) fn take_sequence(&mut self, entity: u128) -> u64 {
        let sequence = self.entities.entry(entity).or_insert(0);
        *sequence += 1;
        *sequence
    }

    /// Gives back the last sequence taken.
    pub(crate) fn give_back(&mut self, entity: u128) {
        if let Some(sequence) = self.entities.get_mut(&entity) {
            *sequence -= 1;
            if *sequence == 0 {
                self.entities.remove(&entity);
            }
        }
    }

    pub(crate) fn remember(&mut self, entity: u128, key: u128, span: Span) {
        self.keys.insert((entity, key), span);
    }

    /// Learns a record during recovery. Records of a batch that turns out unfinished are handed back by
    /// [`Index::forget_batch`].
    pub(crate) fn learn(&mut self, header: &Header, key: u128, gaps: bool) -> Result<(), Invalid> {
        let starts = header.flags & FLAG_BATCH_START != 0;
        let ends = header.flags & FLAG_BATCH_END != 0;
        if starts {
            self.batch.clear();
            self.batch_first = header.position;
        }
        let known = self.sequence(header.entity);
        let unknown_past = self.partial && known == 0;
        let follows = unknown_past || header.sequence == known + 1 || (gaps && header.sequence > known);
        if header.sequence == 0 || !follows {
            return Err(Invalid::Sequence {
                found: header.sequence,
                expected: known + 1,
            });
        }
        self.entities.insert(header.entity, header.sequence);
        self.batch.push((header.entity, key));
        if ends {
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

    pub(crate) fn forget_batch(&mut self) {
        for (entity, _) in std::mem::take(&mut self.batch) {
            self.give_back(entity);
        }
    }
}

//! A blocked Bloom filter: whether a segment may hold an entity, a key or a tag, answered by one cache line.
//!
//! Ten bits for each item give about one false yes in a hundred, and never a false no (Putze, Sanders, Singler: Cache-,
//! Hash- and Space-Efficient Bloom Filters, 2007). Hashes are part of the format (`docs/FORMAT.md`, "Filter").

/// Bytes of a block: one cache line.
pub(crate) const BLOCK: usize = 64;
const BITS_PER_ITEM: u64 = 10;
const BITS_SET: u32 = 7;

/// The finalizer of MurmurHash3: every bit of the word changes every bit of the answer.
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

pub(crate) fn hash_entity(entity: u128) -> u64 {
    mix(entity as u64 ^ mix((entity >> 64) as u64 ^ 0x0e))
}

pub(crate) fn hash_key(entity: u128, key: u128) -> u64 {
    mix(hash_entity(entity) ^ mix(key as u64 ^ mix((key >> 64) as u64 ^ 0x0b)))
}

/// FNV-1a, mixed.
pub(crate) fn hash_tag(tag: &[u8]) -> u64 {
    let fnv = tag.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv ^ 0x07)
}

/// What may be in it.
pub(crate) struct Filter {
    blocks: Vec<[u64; BLOCK / 8]>,
}

impl Filter {
    /// An empty filter with room for `items`.
    pub(crate) fn for_items(items: usize) -> Filter {
        let blocks = (items as u64 * BITS_PER_ITEM).div_ceil(BLOCK as u64 * 8).max(1);
        Filter {
            blocks: vec![[0; BLOCK / 8]; blocks as usize],
        }
    }

    pub(crate) fn of_rows(rows: impl Iterator<Item = [u8; BLOCK]>) -> Filter {
        let word = |bytes: &[u8]| {
            let mut out = [0; 8];
            out.copy_from_slice(bytes);
            u64::from_le_bytes(out)
        };
        let block = |row: [u8; BLOCK]| {
            let mut words = row.chunks_exact(8).map(word);
            std::array::from_fn(|_| words.next().unwrap_or(0))
        };
        Filter {
            blocks: rows.map(block).collect(),
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = [u8; BLOCK]> {
        self.blocks.iter().map(|block| {
            let mut row = [0; BLOCK];
            for (bytes, word) in row.chunks_exact_mut(8).zip(block) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            row
        })
    }

    /// Block of a hash: its upper half scaled; bits in it: 9 at a time of the hash mixed once more.
    fn place(&self, hash: u64) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        let block = ((hash >> 32) * self.blocks.len() as u64) >> 32;
        let bits = mix(hash);
        let bits = (0..BITS_SET).map(move |n| (bits >> (9 * n)) & 511);
        (
            block as usize,
            bits.map(|bit| ((bit / 64) as usize, 1 << (bit % 64))),
        )
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let (block, bits) = self.place(hash);
        for (word, bit) in bits {
            self.blocks[block][word] |= bit;
        }
    }

    /// False: it is not there.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let (block, mut bits) = self.place(hash);
        match self.blocks.get(block) {
            Some(block) => bits.all(|(word, bit)| block[word] & bit != 0),
            // A filter without blocks cannot tell.
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_there_and_little_else() {
        for items in [1usize, 100, 20_000] {
            let mut filter = Filter::for_items(items);
            for n in 0..items as u128 {
                filter.insert(hash_entity(n));
            }
            let back = Filter::of_rows(filter.rows());
            assert!((0..items as u128).all(|n| back.may_hold(hash_entity(n))));
            let wrong = (0..10_000)
                .filter(|n| back.may_hold(hash_entity(1 << 80 | n)))
                .count();
            assert!(wrong < 400, "{wrong} of 10,000 with {items} items");
        }
    }
}

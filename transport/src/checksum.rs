//! The checksum of a frame: a keyed hash that bytes which are not the whole frame pass with a probability of 2^-32 (of
//! frames longer than a block: 2^-31), whatever the payload is. See `docs/PROTOCOL.md`, "Checksum", for the proof.
//!
//! Multilinear hashing of halves, by blocks (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): one
//! multiplication for eight bytes, none of which waits for the one before. Blocks are joined by a polynomial over
//! 2^61 - 1 (Carter and Wegman, 1979).

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Words of eight bytes that are hashed with keys of their own.
const BLOCK: usize = 128;
/// What is hashed of every frame before its body: the header's first word, and the position.
const HEAD: usize = 2;
/// What the keys are derived from, beside the salt.
const LABEL: &[u8] = b"mirrored-ring checksum";
/// The prime that polynomials are computed modulo.
const PRIME: u64 = (1 << 61) - 1;

/// The checksums of one session. A clone shares the keys.
#[derive(Clone)]
pub struct Checksum {
    keys: Arc<Keys>,
}

struct Keys {
    addend: u64,
    words: [[u64; 2]; BLOCK],
    point: u64,
    last: [u64; 3],
}

impl Checksum {
    /// The keys that follow from a session's salt.
    pub fn new(salt: u64) -> Checksum {
        let mut stream = (0u32..).flat_map(|counter| {
            let digest = Sha256::new()
                .chain_update(LABEL)
                .chain_update(salt.to_le_bytes())
                .chain_update(counter.to_le_bytes())
                .finalize();
            let words: [u64; 4] = std::array::from_fn(|word| word_at(&digest[8 * word..]));
            words
        });
        let mut key = || stream.next().expect("the stream has no end");
        let keys = Keys {
            addend: key(),
            words: std::array::from_fn(|_| [key(), key()]),
            point: key() >> 3,
            last: [key(), key(), key()],
        };
        Checksum { keys: Arc::new(keys) }
    }

    /// The checksum of the frame at `position` whose header starts with the word `first`.
    #[inline]
    pub fn of(&self, position: u64, first: u64, body: &[u8]) -> u32 {
        let keys = &*self.keys;
        let (start, rest) = body.split_at(body.len().min(8 * (BLOCK - HEAD)));
        let block = keys
            .addend
            .wrapping_add(product(&keys.words[0], first))
            .wrapping_add(product(&keys.words[1], position))
            .wrapping_add(products(&keys.words[HEAD..], start));
        if rest.is_empty() {
            return (block >> 32) as u32;
        }
        keys.join(block, rest)
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checksum").finish_non_exhaustive()
    }
}

impl Keys {
    /// The checksum of several blocks, of which the first has the given sum.
    fn join(&self, first: u64, rest: &[u8]) -> u32 {
        let mut value = self.absorb(1, first);
        for block in rest.chunks(8 * BLOCK) {
            value = self.absorb(value, self.addend.wrapping_add(products(&self.words, block)));
        }
        (self.last[0].wrapping_add(product(&[self.last[1], self.last[2]], value)) >> 32) as u32
    }

    /// Takes the two halves of a sum as the next coefficients of the polynomial.
    fn absorb(&self, value: u64, sum: u64) -> u64 {
        let upper = times_plus(value, self.point, sum >> 32);
        times_plus(upper, self.point, sum & 0xffff_ffff)
    }
}

/// `value * point + term` modulo the prime, for numbers up to the prime and a term below 2^32.
fn times_plus(value: u64, point: u64, term: u64) -> u64 {
    let product = u128::from(value) * u128::from(point) + u128::from(term);
    let folded = (product as u64 & PRIME) + (product >> 61) as u64;
    if folded >= PRIME { folded - PRIME } else { folded }
}

#[inline]
fn product(keys: &[u64; 2], word: u64) -> u64 {
    let (lower, upper) = (word & 0xffff_ffff, word >> 32);
    keys[0]
        .wrapping_add(lower)
        .wrapping_mul(keys[1].wrapping_add(upper))
}

/// The sum over all words of `bytes`, the last one filled up with zeroes. As many keys as words, or more.
#[inline]
fn products(keys: &[[u64; 2]], bytes: &[u8]) -> u64 {
    let (pairs, tail) = bytes.as_chunks::<16>();
    // Two words at a time: of more, compilers make vector instructions, which lack this multiplication.
    let sum = keys
        .as_chunks::<2>()
        .0
        .iter()
        .zip(pairs)
        .fold(0u64, |sum, (keys, pair)| {
            let pair = u128::from_le_bytes(*pair);
            sum.wrapping_add(product(&keys[0], pair as u64))
                .wrapping_add(product(&keys[1], (pair >> 64) as u64))
        });
    match keys.get(2 * pairs.len()..) {
        Some(keys) if !tail.is_empty() => sum.wrapping_add(products_of_tail(keys, tail)),
        _ => sum,
    }
}

/// As [`products`], of less than two words.
#[inline(never)]
fn products_of_tail(keys: &[[u64; 2]], tail: &[u8]) -> u64 {
    keys.iter().zip(tail.chunks(8)).fold(0u64, |sum, (keys, word)| {
        sum.wrapping_add(product(keys, word_at(word)))
    })
}

/// The word that `bytes` start with, with zeroes for those beyond their end.
#[inline]
fn word_at(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Deterministic noise.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut random = Random::new(seed);
        (0..len).map(|_| random.next() as u8).collect()
    }

    #[test]
    fn depends_on_salt_position_header_and_every_byte_of_the_body() {
        for len in [0, 1, 4, 7, 8, 9, 64, 1007, 1008, 1009, 2032, 2033, 5000] {
            let (checksum, body) = (Checksum::new(1), noise(len as u64, len));
            let whole = checksum.of(16, 2, &body);
            assert_eq!(whole, Checksum::new(1).of(16, 2, &body));
            assert_ne!(whole, Checksum::new(2).of(16, 2, &body));
            assert_ne!(whole, checksum.of(32, 2, &body));
            assert_ne!(whole, checksum.of(16, 3, &body));
            for byte in 0..len {
                let mut other = body.clone();
                other[byte] ^= 0x10;
                assert_ne!(whole, checksum.of(16, 2, &other), "byte {byte} of {len}");
            }
        }
    }

    /// The definition in the document, word by word.
    fn plainly(salt: u64, position: u64, first: u64, body: &[u8]) -> u32 {
        let key = |index: usize| {
            let mut hash = Sha256::new();
            hash.update(LABEL);
            hash.update(salt.to_le_bytes());
            hash.update(((index / 4) as u32).to_le_bytes());
            word_at(&hash.finalize()[8 * (index % 4)..])
        };
        let mut words = vec![first, position];
        words.extend(body.chunks(8).map(word_at));
        let sums: Vec<u64> = words
            .chunks(128)
            .map(|block| {
                let mut sum = key(0);
                for (index, word) in block.iter().enumerate() {
                    let (lower, upper) = (word % (1 << 32), word / (1 << 32));
                    let (one, other) = (key(1 + 2 * index), key(2 + 2 * index));
                    sum = sum.wrapping_add(one.wrapping_add(lower).wrapping_mul(other.wrapping_add(upper)));
                }
                sum
            })
            .collect();
        if let [sum] = sums[..] {
            return (sum >> 32) as u32;
        }
        let prime = (1u128 << 61) - 1;
        let mut value = 1u128;
        for sum in sums {
            for half in [sum >> 32, sum % (1 << 32)] {
                value = (value * u128::from(key(257) >> 3) + u128::from(half)) % prime;
            }
        }
        let value = value as u64;
        let (one, other) = (
            key(259).wrapping_add(value % (1 << 32)),
            key(260).wrapping_add(value >> 32),
        );
        (key(258).wrapping_add(one.wrapping_mul(other)) >> 32) as u32
    }

    #[test]
    fn is_what_the_document_says() {
        for len in [0, 5, 64, 1008, 1009, 3000, 70_000] {
            let body = noise(7 + len as u64, len);
            for (salt, position, first) in [(1, 0, 2), (u64::MAX, 1 << 40, u64::MAX), (0, 4096, 1 << 28)] {
                assert_eq!(
                    Checksum::new(salt).of(position, first, &body),
                    plainly(salt, position, first, &body)
                );
            }
        }
    }

    #[test]
    fn half_a_frame_passes_no_more_often_than_chance_though_its_payload_was_made_for_that() {
        // Of a checksum that is linear in its bytes, such as a CRC, the difference of two bodies decides alone whether
        // both have the same one, for every salt. Here it must not: over many salts, the lower 8 bits of the two
        // checksums agree once in 256 times.
        let whole = [0x41u8; 64];
        let mut torn = whole;
        torn[24..32].fill(0);
        let salts = 1u32 << 14;
        let agree = (0..salts)
            .filter(|salt| {
                let checksum = Checksum::new(u64::from(*salt));
                checksum.of(0, 64, &whole) as u8 == checksum.of(0, 64, &torn) as u8
            })
            .count();
        let expected = salts as usize / 256;
        assert!(
            (expected / 2..expected * 2).contains(&agree),
            "{agree} of {salts}"
        );
    }
}

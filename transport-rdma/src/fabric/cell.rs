//! Cells: places in one's own memory that the peer writes a number to, without any order or atomicity promised.
//!
//! A cell is two words: the number, and a word that only this number has. A cell of which half has arrived, or
//! bytes of which have, does not hold together, and is read as nothing; so is a cell that was never written.

use std::sync::atomic::Ordering;

use transport::memory::RingMemory;

/// Bytes of a cell.
pub(crate) const SIZE: usize = 16;

/// The word that goes with a number: any two numbers that differ in a byte differ in about half of its bits, in every
/// byte (the finaliser of MurmurHash3, moved off zero).
fn companion(number: u64) -> u64 {
    let mut word = number ^ 0x9e37_79b9_7f4a_7c15;
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// The bytes to write.
pub(crate) fn encode(number: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&companion(number).to_le_bytes());
    bytes
}

/// The number at `offset`, if it is there as a whole and another one than `known`. An unwritten cell holds no zero,
/// but who knows zero of it is not told otherwise.
#[inline]
pub(crate) fn changed(memory: &RingMemory, offset: usize, known: u64) -> Option<u64> {
    let number = u64::from_le(memory.word(offset).load(Ordering::Acquire));
    if number == known {
        return None;
    }
    let check = u64::from_le(memory.word(offset + 8).load(Ordering::Acquire));
    (check == companion(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &RingMemory, bytes: [u8; SIZE]) {
        for word in 0..2 {
            let value = u64::from_le_bytes(bytes[8 * word..8 * word + 8].try_into().unwrap());
            memory.word(8 * word).store(value, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_number_comes_back_and_an_unwritten_cell_is_nothing() {
        let memory = RingMemory::anonymous(4096).unwrap();
        assert_eq!(changed(&memory, 0, 7), None);
        for number in [0, 1, 255, 256, u64::MAX] {
            put(&memory, encode(number));
            assert_eq!(changed(&memory, 0, 7), Some(number));
            assert_eq!(changed(&memory, 0, number), None, "known already");
        }
    }

    #[test]
    fn a_cell_torn_between_two_numbers_at_any_bytes_is_the_new_one_or_nothing() {
        let memory = RingMemory::anonymous(4096).unwrap();
        for (old, new) in [(255, 256), (0xffff, 0x1_0000), (4096, 8192), (16, 17 << 32)] {
            let (before, after) = (encode(old), encode(new));
            for torn in 0..1u32 << SIZE {
                let mixed = std::array::from_fn(|byte| {
                    if torn & (1 << byte) == 0 {
                        before[byte]
                    } else {
                        after[byte]
                    }
                });
                put(&memory, mixed);
                let got = changed(&memory, 0, old);
                assert!(got.is_none_or(|number| number == new), "{got:?}");
            }
        }
    }
}

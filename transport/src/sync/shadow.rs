//! What loom knows of a ring's memory: its words as loom's atomics, and for each four bytes whether somebody reads or
//! writes them without atomicity, so that two who do so at once are found.

#![allow(unsafe_code)]

use loom::cell::UnsafeCell;

use super::checked::{AtomicU64, is_over};

/// Bytes that are watched together.
const UNIT: usize = 4;

pub(crate) struct Shadow {
    words: Vec<AtomicU64>,
    units: Vec<UnsafeCell<()>>,
}

impl Shadow {
    pub(crate) fn new(len: usize) -> Shadow {
        Shadow {
            words: (0..len / 8).map(|_| AtomicU64::new(0)).collect(),
            units: (0..len / UNIT).map(|_| UnsafeCell::new(())).collect(),
        }
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words[offset / 8]
    }

    /// Somebody reads `len` bytes at `offset`, plainly. The words that were stored there are copied to `base`.
    ///
    /// # Safety
    /// `base` is where the bytes of this memory stand.
    pub(crate) unsafe fn read(&self, base: *mut u8, offset: usize, len: usize) {
        if is_over() {
            return;
        }
        for unit in &self.units[offset / UNIT..(offset + len).div_ceil(UNIT)] {
            unit.with(|_| ());
        }
        for index in offset.div_ceil(8)..(offset + len) / 8 {
            let value = self.words[index].plain_load();
            if value != 0 {
                // SAFETY: inside the memory, as the caller says.
                unsafe { base.add(index * 8).cast::<u64>().write_unaligned(value) };
            }
        }
    }

    /// Somebody writes `len` bytes at `offset`, plainly.
    pub(crate) fn write(&self, offset: usize, len: usize) {
        if is_over() {
            return;
        }
        for unit in &self.units[offset / UNIT..(offset + len).div_ceil(UNIT)] {
            unit.with_mut(|_| ());
        }
    }

    /// Somebody zeroes `len` bytes at `offset`, plainly; words too.
    pub(crate) fn zero(&self, offset: usize, len: usize) {
        self.write(offset, len);
        for word in &self.words[offset / 8..(offset + len) / 8] {
            // SAFETY: the word lives in `self`.
            unsafe { AtomicU64::plain_zero(word) };
        }
    }
}

//! The bytes that a ring lives in.
//!
//! Ring memory may be read or written by somebody else at any time: a network card, or another process that maps
//! it. So nothing here hands out long-lived references to it except through [`crate::ring`], which says for each
//! access why it is ordered.

#![allow(unsafe_code)]

use std::any::Any;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::sync::atomic::AtomicU64;

/// Bytes of a huge page: that of x86-64, and of arm64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// The pages that memory lies on. A network card keeps one translation for each, and so does the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Of the system's usual size, unless the system makes them huge by itself.
    Ordinary,
    /// Of 2 MiB, out of those that the system keeps for the purpose (`vm.nr_hugepages`).
    Huge,
}

/// A page-aligned, zeroed region of bytes that outlives every ring that uses it.
#[derive(Clone)]
pub struct RingMemory {
    base: NonNull<u8>,
    len: usize,
    pages: Pages,
    _owner: Arc<dyn Any + Send + Sync>,
    #[cfg(loom)]
    shadow: (Arc<crate::sync::Shadow>, usize),
}

// SAFETY: the region is plain bytes kept alive by `_owner`, which is itself Send and Sync; every access to the
// bytes goes through atomics or through the ring's claim and release protocol.
unsafe impl Send for RingMemory {}
// SAFETY: as above.
unsafe impl Sync for RingMemory {}

impl RingMemory {
    /// Fresh private memory of `len` bytes, zeroed, page-aligned; pages are taken from the system when touched.
    ///
    /// # Errors
    /// The system's error when it has no address space or memory left.
    pub fn anonymous(len: usize) -> io::Result<RingMemory> {
        let mut map = MmapMut::map_anon(len)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        // SAFETY: the mapping is that long, page-aligned, lives as long as the owner, and nobody else knows of it.
        Ok(unsafe { RingMemory::from_raw(base, len, Arc::new(map)) })
    }

    /// Memory as [`RingMemory::anonymous`], on huge pages of 2 MiB when it fills one and the system keeps enough of them
    /// free (`vm.nr_hugepages`); otherwise on ordinary ones, which the system is asked to make huge where it can
    /// (`MADV_HUGEPAGE`). Children of this process do not inherit huge pages.
    ///
    /// # Errors
    /// The system's error when it has no address space or memory left.
    pub fn huge(len: usize) -> io::Result<RingMemory> {
        let on_huge_pages = || {
            MmapOptions::new()
                .len(len.next_multiple_of(HUGE_PAGE))
                .huge(Some(HUGE_PAGE.trailing_zeros() as u8))
                .map_anon()
        };
        // Where it fails, too few are free, or this kernel has no pages of that size.
        let (mut map, pages) = match (len >= HUGE_PAGE).then(on_huge_pages) {
            Some(Ok(map)) => (map, Pages::Huge),
            _ => (MmapMut::map_anon(len)?, Pages::Ordinary),
        };
        let advised = map.advise(match pages {
            // The whole mapping at once: a part of it could only be told so in whole huge pages.
            Pages::Huge => Advice::DontFork,
            Pages::Ordinary => Advice::HugePage,
        });
        if let Err(error) = advised {
            tracing::debug!(%error, "ring memory stays as it is");
        }
        let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        // SAFETY: the mapping is at least that long, page-aligned, lives as long as the owner, and nobody else knows of it.
        let memory = unsafe { RingMemory::from_raw(base, len, Arc::new(map)) };
        Ok(RingMemory { pages, ..memory })
    }

    /// Memory that something else owns: a shared mapping, a registered region.
    ///
    /// # Safety
    /// `base` is valid for reads and writes of `len` bytes and aligned to 64 bytes for as long as `owner` lives;
    /// nobody in this process makes a Rust reference to those bytes except through the rings.
    pub unsafe fn from_raw(base: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) -> RingMemory {
        RingMemory {
            base,
            len,
            pages: Pages::Ordinary,
            _owner: owner,
            #[cfg(loom)]
            shadow: (Arc::new(crate::sync::Shadow::new(len)), 0),
        }
    }

    /// A part of this memory, sharing its owner.
    ///
    /// # Panics
    /// When the range is not inside the memory or does not start on a 64-byte boundary.
    pub fn slice(&self, offset: usize, len: usize) -> RingMemory {
        assert!(offset.is_multiple_of(64) && offset <= self.len && len <= self.len - offset);
        // SAFETY: the offset is inside the region, as just checked.
        let base = unsafe { self.base.add(offset) };
        RingMemory {
            base,
            len,
            pages: self.pages,
            _owner: self._owner.clone(),
            #[cfg(loom)]
            shadow: (self.shadow.0.clone(), self.shadow.1 + offset),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What kind of pages it lies on.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The address of the first byte, for registration with a device.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The aligned 8-byte word at `offset`.
    ///
    /// # Panics
    /// When the word is not aligned or not inside the region.
    #[inline]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        // A word that is aligned and starts within the whole words ends within them.
        assert!(offset.is_multiple_of(8) && offset < self.len & !7);
        #[cfg(loom)]
        return self.shadow.0.word(self.shadow.1 + offset);
        #[cfg(not(loom))]
        // SAFETY: in bounds and aligned, as just checked; the base is at least 64-byte aligned; atomics may be
        // shared with other threads, processes and devices.
        unsafe {
            AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast())
        }
    }

    /// Has the processor fetch the cache line at `offset`, where it can be told to.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        // SAFETY: a hint, which reads nothing and faults at no address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().wrapping_add(offset).cast());
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        let _ = offset;
    }

    /// Bytes that nobody writes just now.
    ///
    /// # Safety
    /// They lie inside the region, and for as long as the slice lives no thread of this process writes them.
    #[inline]
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        debug_assert!(len <= self.len && offset <= self.len - len);
        #[cfg(loom)]
        // SAFETY: the base less the offset of this part is where the shadow's memory starts.
        unsafe {
            self.shadow
                .0
                .read(self.as_ptr().sub(self.shadow.1), self.shadow.1 + offset, len);
        }
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(offset), len) }
    }

    /// Bytes that nobody else reads or writes just now.
    ///
    /// # Safety
    /// They lie inside the region, and for as long as the slice lives no other thread of this process accesses them.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        debug_assert!(len <= self.len && offset <= self.len - len);
        #[cfg(loom)]
        self.shadow.0.write(self.shadow.1 + offset, len);
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr().add(offset), len) }
    }

    /// Zeroes bytes that nobody else reads or writes just now.
    ///
    /// # Safety
    /// As [`RingMemory::bytes_mut`].
    #[inline]
    pub(crate) unsafe fn zero(&self, offset: usize, len: usize) {
        debug_assert!(len <= self.len && offset <= self.len - len);
        #[cfg(loom)]
        self.shadow.0.zero(self.shadow.1 + offset, len);
        // SAFETY: as the caller promises.
        unsafe { std::ptr::write_bytes(self.as_ptr().add(offset), 0, len) };
    }
}

impl std::fmt::Debug for RingMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingMemory")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn memory_on_huge_pages_is_as_long_as_asked_and_zeroed_whatever_the_system_keeps() {
        for len in [4096, HUGE_PAGE - 64, HUGE_PAGE + 64] {
            let memory = RingMemory::huge(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!((memory.as_ptr() as usize).is_multiple_of(4096));
            for offset in [0, len - 8] {
                assert_eq!(memory.word(offset).swap(7, Ordering::Relaxed), 0);
            }
        }
    }
}

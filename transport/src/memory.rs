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
use std::sync::atomic::AtomicU64;

use memmap2::MmapMut;

/// A page-aligned, zeroed region of bytes that outlives every ring that uses it.
#[derive(Clone)]
pub struct RingMemory {
    base: NonNull<u8>,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
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
        Ok(RingMemory {
            base,
            len,
            _owner: Arc::new(map),
        })
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
            _owner: owner,
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
            _owner: self._owner.clone(),
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
        assert!(offset.is_multiple_of(8) && self.len >= 8 && offset <= self.len - 8);
        // SAFETY: in bounds and aligned, as just checked; the base is at least 64-byte aligned; atomics may be
        // shared with other threads, processes and devices.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

impl std::fmt::Debug for RingMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingMemory")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

//! Memory that is not this process's alone: shared with another process, or mapped from a file.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, doing};

/// A shared mapping, zero-filled when new.
///
/// Bytes are reached through raw pointers, for another process may write them at any time; who may touch
/// which of them when is what the types built on this one ([`line`](crate::floor::shm), the ring) settle.
pub(crate) struct SharedMemory {
    base: NonNull<u8>,
    len: usize,
    /// Keeps the path that the other process opens alive.
    file: Option<OwnedFd>,
}

// SAFETY: the mapping is valid from any thread until it is dropped, and nothing in it is tied to one.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// New memory, which another process can [`open`](Self::open) by [`path`](Self::path).
    pub(crate) fn create(len: usize) -> Result<SharedMemory, Error> {
        let file = memfd_create("bench", MemfdFlags::CLOEXEC).map_err(doing("creating shared memory"))?;
        ftruncate(&file, len as u64).map_err(doing(format!("reserving {len} bytes of shared memory")))?;
        let mut memory = Self::map(&file, len, MapFlags::SHARED | MapFlags::POPULATE)
            .map_err(doing(format!("mapping {len} bytes of shared memory")))?;
        memory.file = Some(file);
        Ok(memory)
    }

    /// The memory that another process made.
    pub(crate) fn open(path: &str, len: usize) -> Result<SharedMemory, Error> {
        let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(doing(format!("opening the shared memory {path}")))?;
        Self::map(&file, len, MapFlags::SHARED | MapFlags::POPULATE)
            .map_err(doing(format!("mapping {len} bytes of {path}")))
    }

    /// `len` bytes of a file on persistent memory, such that what is flushed from the cache is durable.
    ///
    /// # Errors
    /// The file system cannot promise that (`EOPNOTSUPP`, or `EINVAL` from an old kernel).
    pub(crate) fn of_persistent_file(file: impl AsFd, len: usize) -> Result<SharedMemory, Errno> {
        Self::map(file, len, MapFlags::SHARED_VALIDATE | MapFlags::SYNC)
    }

    fn map(file: impl AsFd, len: usize, flags: MapFlags) -> Result<SharedMemory, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let base = unsafe {
            mmap(
                null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(SharedMemory {
            base,
            len,
            file: None,
        })
    }

    /// Where a child of this process can open the memory.
    pub(crate) fn path(&self) -> Option<String> {
        self.file
            .as_ref()
            .map(|file| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
    }

    /// The address of the `len` bytes at `offset`.
    ///
    /// # Panics
    /// They are not all within the mapping.
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "outside of the mapping"
        );
        // SAFETY: just checked to be within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The 4-byte word at `offset`, a multiple of 4.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        // SAFETY: aligned (pages are, and so is the offset), within the mapping, alive as long as `self`, and only
        // ever touched as an atomic: no user of the memory lets its bytes overlap its words.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    /// The 8-byte word at `offset`, a multiple of 8.
    pub(crate) fn position(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone in this process, and every reference into it borrowed `self`.
        // It can only fail for a range that was never mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

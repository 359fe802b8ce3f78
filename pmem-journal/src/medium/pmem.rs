//! Segments mapped into memory and written with non-temporal stores: `Pmem`, `Eadr` and `Volatile`.
//!
//! Invariants that make the unsafe blocks sound: a mapping covers exactly the `len` bytes that the file had when it
//! was mapped; a segment is reserved and filled with zeroes before it is mapped and never truncated; no reference
//! into a mapping is ever made, only raw pointers are written through; reading goes through pread. Only the holder
//! of the writer lock maps for writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::MediumFile;
use crate::format::Encoded;
use crate::mode::Mode;

/// The file, all of it mapped for writing. `mode` is one of `Pmem`, `Eadr` (probed before) and `Volatile`.
pub(crate) fn mapped(file: File, mode: Mode) -> io::Result<Box<dyn MediumFile>> {
    let flags = if mode == Mode::Volatile {
        MapFlags::SHARED
    } else {
        MapFlags::SHARED_VALIDATE | MapFlags::SYNC
    };
    let mapping = Mapping::new(&file, file.metadata()?.len(), flags)?;
    mapping.populate()?;
    Ok(Box::new(MappedFile {
        file,
        mapping,
        streaming: mode != Mode::Eadr,
    }))
}

struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory without thread affinity, and is only written through raw pointers by `write`,
// whose callers hold the journal's lock; nothing reads through it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File, len: u64, flags: MapFlags) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len })
    }

    /// Takes the page faults now instead of in an append, where one that fails would be a signal: a page that cannot be had,
    /// because of bad media or a file cut short, is an error here. Kernels before 5.14 cannot tell.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping; populating changes no byte.
        match unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxPopulateWrite) } {
            Err(Errno::INVAL) | Ok(()) => Ok(()),
            Err(e) => Err(io::Error::other(format!(
                "a page of the segment cannot be written ({e}): bad media, or the file was cut; \
                 `pmem-journal verify` says what can be read"
            ))),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8], streaming: bool) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| *end <= self.len as u64);
        if end.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "write past the end of the segment",
            ));
        }
        // SAFETY: `offset + len` lies inside the mapping, checked above.
        let to = unsafe { self.base.as_ptr().add(offset as usize) };
        #[cfg(target_arch = "x86_64")]
        if streaming && to.addr().is_multiple_of(16) && bytes.len().is_multiple_of(16) {
            // SAFETY: the range is inside the mapping, aligned at both ends, and no reference into it exists.
            unsafe { super::nt::copy(to, bytes) };
            return Ok(());
        }
        if streaming {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a streamed write must be 16-byte aligned",
            ));
        }
        // SAFETY: the range is inside the mapping, and `bytes` is ordinary memory that cannot overlap it, because no
        // reference into the mapping exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `mmap` gave, and no pointer into it outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

struct MappedFile {
    file: File,
    mapping: Mapping,
    streaming: bool,
}

impl MappedFile {
    #[cold]
    fn write_copied(&self, offset: u64, record: &Encoded<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        record.append_to(&mut bytes);
        self.write_at(offset, &bytes)
    }
}

impl MediumFile for MappedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mapping.write(offset, bytes, self.streaming)
    }

    #[inline]
    fn write_record(&self, offset: u64, record: &Encoded<'_>) -> io::Result<()> {
        #[cfg(target_arch = "x86_64")]
        if self.streaming && offset.is_multiple_of(16) {
            let end = offset.checked_add(record.padded_len() as u64);
            if end.is_some_and(|end| end <= self.mapping.len as u64) {
                // SAFETY: the record's range lies inside the mapping, which begins at a page and so is aligned at every
                // multiple of 16, and no reference into it exists.
                unsafe { super::nt::record(self.mapping.base.as_ptr().add(offset as usize), record) };
                return Ok(());
            }
        }
        self.write_copied(offset, record)
    }

    fn commit(&self) -> io::Result<()> {
        #[cfg(target_arch = "x86_64")]
        super::nt::fence();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether the file can be mapped with MAP_SYNC. Nothing is stored through the mapping.
pub(super) fn try_map_sync(file: &File) -> io::Result<()> {
    Mapping::new(file, 4096, MapFlags::SHARED_VALIDATE | MapFlags::SYNC).map(drop)
}

/// One shared u64, little-endian, at the start of a file of at least 4096 written bytes.
pub(crate) struct SharedWord(Mapping);

impl SharedWord {
    pub(crate) fn map(file: &File) -> io::Result<SharedWord> {
        Ok(SharedWord(Mapping::new(file, 4096, MapFlags::SHARED)?))
    }

    pub(crate) fn store(&self, value: u64) {
        // SAFETY: the mapping is page-aligned, 4096 bytes long and lives as long as `self`; this process touches
        // the word through this atomic alone.
        let word = unsafe { std::sync::atomic::AtomicU64::from_ptr(self.0.base.as_ptr().cast()) };
        word.store(value.to_le(), std::sync::atomic::Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_had_is_an_error_and_no_signal() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapping = Mapping::new(&file, 8192, MapFlags::SHARED).unwrap();
        mapping.populate().unwrap();
        // A page without a file behind it faults as one on bad media does.
        file.set_len(4096).unwrap();
        let refused = mapping.populate().unwrap_err().to_string();
        assert!(refused.contains("cannot be written"), "{refused}");
    }
}

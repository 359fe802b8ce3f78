//! A sealed segment mapped for reading, so that its records are lent without a copy.
//!
//! Invariants that make the unsafe blocks sound: only sealed segments are mapped, whose bytes nobody writes again (a
//! segment is replaced by renaming another over it, never in place); the mapping covers exactly the length that the
//! file had; a page is made present, by a call that answers with an error and not a signal, before it is lent.
//!
//! That call never returns from a page that cannot be read on Linux before 6.9 (631426ba1d45, "make MADV_POPULATE_(READ|WRITE)
//! handle VM_FAULT_RETRY properly"): there nothing is mapped, and segments are read through a buffer.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Bytes made present at first, a multiple of every page size; twice as many each time,
const LITTLE: usize = 128 << 10;
/// and at most so many at once.
const MUCH: usize = 2 << 20;

/// A read-only mapping of a whole file, of which a range is present.
pub(crate) struct ReadMap {
    base: NonNull<u8>,
    len: usize,
    /// The range begins here, at a multiple of [`LITTLE`],
    start: usize,
    /// and ends here, at another or at `len`.
    end: usize,
    /// Bytes to make present next.
    ahead: usize,
}

// SAFETY: the mapping is read-only memory without thread affinity.
unsafe impl Send for ReadMap {}
// SAFETY: as above; what is present changes through `&mut` alone.
unsafe impl Sync for ReadMap {}

impl ReadMap {
    pub(crate) fn new(file: &File) -> io::Result<ReadMap> {
        static SOUND: OnceLock<bool> = OnceLock::new();
        let kernel = || std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        if !SOUND.get_or_init(|| answers_for_unreadable_pages(&kernel())) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(ReadMap {
            base,
            len,
            start: 0,
            end: 0,
            ahead: LITTLE,
        })
    }

    /// Bytes before `offset` will not be asked for. To be called before [`ReadMap::upto`].
    pub(crate) fn begin_at(&mut self, offset: u64) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len);
        self.start = offset / LITTLE * LITTLE;
        self.end = self.start;
    }

    /// Where the bytes lent begin.
    pub(crate) fn start(&self) -> u64 {
        self.start as u64
    }

    /// The bytes from the beginning to `end`, or all there are; unreadable media is an error here.
    pub(crate) fn upto(&mut self, end: u64) -> io::Result<&[u8]> {
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.len);
        while self.end < end {
            let more = self.ahead.min(self.len - self.end);
            // SAFETY: the range lies inside the mapping; making pages present changes no byte. `end` is below `len`, so
            // it is a multiple of `LITTLE` and of the page size.
            unsafe {
                let from = self.base.as_ptr().add(self.end);
                madvise(from.cast(), more, Advice::LinuxPopulateRead)?;
            }
            self.end += more;
            self.ahead = (2 * self.ahead).min(MUCH);
        }
        Ok(self.bytes())
    }

    /// The bytes made present so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes from `start` to `end`, no further than `len`, are mapped, readable, and of a sealed segment, which
        // nobody writes; the slice lives no longer than the mapping.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(self.start), self.end - self.start) }
    }
}

impl Drop for ReadMap {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `mmap` gave, and no slice of it outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Whether the kernel of this release (`6.12.9-amd64`) answers when a page cannot be read.
fn answers_for_unreadable_pages(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 9),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_would_try_for_ever_are_told_by_their_release() {
        for sound in ["6.9.0", "6.18.44-fc-v595", "7.0-rc1", "10.1"] {
            assert!(answers_for_unreadable_pages(sound), "{sound}");
        }
        for other in ["6.8.12-generic", "6.1.0-56-amd64", "5.15", "4", "", "six"] {
            assert!(!answers_for_unreadable_pages(other), "{other}");
        }
    }
}

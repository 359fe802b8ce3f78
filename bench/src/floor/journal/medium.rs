//! Where the bare loop puts its bytes, and the least that makes them durable there.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::Mode;
use crate::error::{Error, doing};
use crate::shared_memory::SharedMemory;

/// What is written round and round.
const STRETCH: usize = 16 << 20;
/// O_DIRECT wants addresses, lengths and offsets in multiples of this.
const BLOCK: usize = 4096;
/// A cache line; also what a commit in mapped memory is rounded up to.
const LINE: usize = 64;

/// An open medium. A commit is `begin`, any number of `store`s that together have the announced length,
/// `make_durable`.
pub(super) enum Medium {
    Mapped(Mapped),
    Filed(Filed),
}

impl Medium {
    pub(super) fn open(dir: &Path, mode: Mode, commit: usize) -> Result<Medium, Error> {
        let stretch = STRETCH.max(commit.next_multiple_of(BLOCK));
        Ok(match mode {
            Mode::Pmem | Mode::Eadr => {
                if !cfg!(target_arch = "x86_64") {
                    return Err(Error::ModeUnavailable {
                        mode: mode.name(),
                        needs: "an x86_64 processor",
                    });
                }
                let file = unnamed_file(dir, OFlags::empty())?;
                allocate(&file, dir, stretch)?;
                let memory = SharedMemory::of_persistent_file(&file, stretch).map_err(|errno| {
                    Error::NotPersistentMemory {
                        dir: dir.to_owned(),
                        source: errno.into(),
                    }
                })?;
                Medium::Mapped(Mapped::new(memory, stretch, commit, mode == Mode::Pmem))
            }
            Mode::Volatile => {
                Medium::Mapped(Mapped::new(SharedMemory::create(stretch)?, stretch, commit, true))
            }
            Mode::Buffered => Medium::Filed(Filed::new(dir, OFlags::empty(), stretch, commit, 1)?),
            Mode::Direct => Medium::Filed(Filed::new(
                dir,
                OFlags::DIRECT | OFlags::DSYNC,
                stretch,
                commit,
                BLOCK,
            )?),
            Mode::Auto => unreachable!("the caller resolves it"),
        })
    }

    #[inline]
    pub(super) fn begin(&mut self) {
        match self {
            Medium::Mapped(mapped) => mapped.begin(),
            Medium::Filed(filed) => filed.filled = filed.start,
        }
    }

    #[inline]
    pub(super) fn store(&mut self, event: &[u8]) {
        match self {
            Medium::Mapped(mapped) => mapped.store(event),
            Medium::Filed(filed) => filed.store(event),
        }
    }

    #[inline]
    pub(super) fn make_durable(&mut self) -> Result<(), Error> {
        match self {
            Medium::Mapped(mapped) => mapped.make_durable(),
            Medium::Filed(filed) => filed.make_durable()?,
        }
        Ok(())
    }
}

/// Mapped memory.
pub(super) struct Mapped {
    memory: SharedMemory,
    stretch: usize,
    commit: usize,
    at: usize,
    /// A commit, put together in the cache, before it is stored past the cache; empty where the cache is
    /// good enough to store into.
    staged: Vec<u8>,
    filled: usize,
    past_cache: bool,
}

impl Mapped {
    fn new(memory: SharedMemory, stretch: usize, commit: usize, past_cache: bool) -> Mapped {
        let commit = commit.next_multiple_of(LINE);
        let staged = vec![0; if past_cache { commit } else { 0 }];
        let mut mapped = Mapped {
            memory,
            stretch,
            commit,
            at: 0,
            staged,
            filled: 0,
            past_cache,
        };
        mapped.touch();
        mapped
    }

    /// Takes the page faults now.
    fn touch(&mut self) {
        for offset in (0..self.stretch).step_by(BLOCK) {
            // SAFETY: `at` checks the bounds; nobody else writes to this memory.
            unsafe { self.memory.at(offset, 1).write_volatile(0) };
        }
    }

    fn begin(&mut self) {
        if self.at + self.commit > self.stretch {
            self.at = 0;
        }
        self.filled = 0;
    }

    fn store(&mut self, event: &[u8]) {
        if self.past_cache {
            self.staged[self.filled..self.filled + event.len()].copy_from_slice(event);
        } else {
            let to = self.memory.at(self.at + self.filled, event.len());
            // SAFETY: `at` checked the bounds, and private memory does not overlap the mapping.
            unsafe { std::ptr::copy_nonoverlapping(event.as_ptr(), to, event.len()) };
        }
        self.filled += event.len();
    }

    fn make_durable(&mut self) {
        if self.past_cache {
            let to = self.memory.at(self.at, self.staged.len());
            // SAFETY: `at` checked the bounds; `to` is aligned to a line, for the mapping is to a page, and `self.at`
            // and the length of a commit are multiples of a line.
            unsafe { store_past_cache(to, &self.staged) };
        }
        fence();
        self.at += self.commit;
    }
}

/// Stores `bytes` at `to` without leaving them in the cache.
///
/// # Safety
/// `to` is aligned to [`LINE`], valid for as many bytes, and does not overlap them; their number is a multiple of
/// [`LINE`].
#[cfg(target_arch = "x86_64")]
unsafe fn store_past_cache(to: *mut u8, bytes: &[u8]) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    let words = bytes.len() / size_of::<__m128i>();
    let (from, to) = (bytes.as_ptr().cast::<__m128i>(), to.cast::<__m128i>());
    for word in 0..words {
        // SAFETY: within both, as the caller promises; SSE2 is part of every x86_64.
        unsafe { _mm_stream_si128(to.add(word), _mm_loadu_si128(from.add(word))) };
    }
}

/// Stores `bytes` at `to`.
///
/// # Safety
/// `to` is valid for as many bytes and does not overlap them.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn store_past_cache(to: *mut u8, bytes: &[u8]) {
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
}

/// Waits until the stores before it are where they survive.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86_64; the fence touches no memory of its own.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// A file without a name.
pub(super) struct Filed {
    file: File,
    stretch: usize,
    at: usize,
    /// The bytes of a commit, from `start` on, where the alignment is right.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    alignment: usize,
    sync: bool,
}

impl Filed {
    fn new(
        dir: &Path,
        flags: OFlags,
        stretch: usize,
        commit: usize,
        alignment: usize,
    ) -> Result<Filed, Error> {
        let file = unnamed_file(dir, flags)?;
        let buffer = vec![0; commit.next_multiple_of(alignment).max(BLOCK) + alignment];
        let start = buffer.as_ptr().align_offset(alignment);
        let sync = !flags.contains(OFlags::DSYNC);
        let mut filed = Filed {
            file,
            stretch,
            at: 0,
            buffer,
            start,
            filled: 0,
            alignment,
            sync,
        };
        filed.zero(dir)?;
        Ok(filed)
    }

    /// Writes the whole stretch once, as a journal that prepares its segments does: a commit then changes
    /// no metadata.
    fn zero(&mut self, dir: &Path) -> Result<(), Error> {
        allocate(&self.file, dir, self.stretch)?;
        let zeroes = vec![0; (1 << 20) + self.alignment];
        let start = zeroes.as_ptr().align_offset(self.alignment);
        let mut offset = 0;
        while offset < self.stretch {
            let part = (self.stretch - offset).min(1 << 20);
            self.file
                .write_all_at(&zeroes[start..start + part], offset as u64)
                .map_err(doing(format!("preparing a file in {}", dir.display())))?;
            offset += part;
        }
        self.file
            .sync_all()
            .map_err(doing(format!("preparing a file in {}", dir.display())))
    }

    fn store(&mut self, event: &[u8]) {
        self.buffer[self.filled..self.filled + event.len()].copy_from_slice(event);
        self.filled += event.len();
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        let len = (self.filled - self.start).next_multiple_of(self.alignment);
        if self.at + len > self.stretch {
            self.at = 0;
        }
        let bytes = &self.buffer[self.start..self.start + len];
        self.file
            .write_all_at(bytes, self.at as u64)
            .map_err(doing("writing to the journal floor's file"))?;
        if self.sync {
            self.file
                .sync_data()
                .map_err(doing("syncing the journal floor's file"))?;
        }
        self.at += len;
        Ok(())
    }
}

/// A file that goes away with its handle.
fn unnamed_file(dir: &Path, flags: OFlags) -> Result<File, Error> {
    if !dir.is_dir() {
        return Err(Error::JournalDir {
            dir: dir.to_owned(),
            what: "no such folder".to_owned(),
        });
    }
    let mut options = File::options();
    options.read(true).write(true).custom_flags(flags.bits() as i32);
    tempfile::Builder::new()
        .prefix(".bench-floor-")
        .make_in(dir, |path| options.clone().create_new(true).open(path))
        .map(|file| file.into_file())
        .map_err(|error| Error::JournalDir {
            dir: dir.to_owned(),
            what: format!("cannot make a file there: {error}"),
        })
}

/// Takes the space now: a full disk is an error here instead of a signal in a mapping.
fn allocate(file: &File, dir: &Path, len: usize) -> Result<(), Error> {
    match fallocate(file, FallocateFlags::empty(), 0, len as u64) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => file
            .set_len(len as u64)
            .map_err(doing("sizing the journal floor's file")),
        Err(errno) => Err(Error::JournalDir {
            dir: dir.to_owned(),
            what: format!(
                "cannot reserve {len} bytes there: {}",
                std::io::Error::from(errno)
            ),
        }),
    }
}

//! Files written past the page cache, each write durable when it returns (O_DIRECT, O_DSYNC).
//!
//! The device takes whole blocks, so a write begins and ends with bytes of its neighbours: what was there before it, and
//! what was there behind it (zeroes where nothing was written yet). They are written again with the same content, as a
//! page cache does; a sector that is torn there holds the same bytes either way. Reading goes through the page cache,
//! as everywhere: a reader that finds a stale page has it read anew (`replay.rs`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::read_map::ReadMap;
use super::{MediumFile, read_full};

/// What every device in use takes as a unit of direct writing, or a multiple of it.
const BLOCK: u64 = 4096;

/// The file at `path`, open as `cached` already, for writing past the page cache.
pub(crate) fn written_past_cache(path: &Path, cached: File) -> io::Result<Box<dyn MediumFile>> {
    Ok(Box::new(DirectFile {
        direct: open_direct(path)?,
        cached,
        buffer: Mutex::default(),
    }))
}

fn open_direct(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECT | OFlags::DSYNC;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

/// Whether a file in `dir` can be written past the page cache; the reason if not.
pub(crate) fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!("probe-direct-{}.tmp", std::process::id()));
    std::fs::write(&path, [0; BLOCK as usize])?;
    let tried = open_direct(&path).and_then(|file| {
        let mut buffer = Aligned::default();
        buffer.block(BLOCK as usize).fill(0);
        file.write_all_at(buffer.block(BLOCK as usize), 0)
    });
    let _ = std::fs::remove_file(&path);
    tried
}

/// Memory that begins at a multiple of [`BLOCK`].
#[derive(Default)]
struct Aligned {
    bytes: Vec<u8>,
    /// Offset and content of the last block written: where the next write begins.
    last: Option<(u64, Box<[u8; BLOCK as usize]>)>,
}

impl Aligned {
    fn block(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + BLOCK as usize {
            self.bytes.resize(len + BLOCK as usize, 0);
        }
        let start = self.bytes.as_ptr().align_offset(BLOCK as usize);
        &mut self.bytes[start..start + len]
    }
}

struct DirectFile {
    direct: File,
    /// The same file through the page cache, for reading.
    cached: File,
    buffer: Mutex<Aligned>,
}

impl DirectFile {
    /// What the file holds in the block at `offset`.
    fn block_at(
        &self,
        last: &Option<(u64, Box<[u8; BLOCK as usize]>)>,
        offset: u64,
    ) -> io::Result<[u8; BLOCK as usize]> {
        if let Some((at, block)) = last
            && *at == offset
        {
            return Ok(**block);
        }
        let mut block = [0; BLOCK as usize];
        read_full(self, offset, &mut block)?;
        Ok(block)
    }
}

impl MediumFile for DirectFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.cached.read_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, end) = (
            offset / BLOCK * BLOCK,
            (offset + bytes.len() as u64).next_multiple_of(BLOCK),
        );
        let len = (end - start) as usize;
        let first = self.block_at(&buffer.last, start)?;
        let final_block = self.block_at(&buffer.last, end - BLOCK)?;
        let whole = buffer.block(len);
        whole[len - BLOCK as usize..].copy_from_slice(&final_block);
        whole[..BLOCK as usize].copy_from_slice(&first);
        let at = (offset - start) as usize;
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        let mut kept = Box::new([0; BLOCK as usize]);
        kept.copy_from_slice(&whole[len - BLOCK as usize..]);
        self.direct.write_all_at(whole, start)?;
        // Blocks that this write changed are known by what it wrote.
        buffer.last = Some((end - BLOCK, kept));
        Ok(())
    }

    /// Each write was durable when it returned.
    fn commit(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync_data()
    }

    fn map_for_reading(&self) -> Option<ReadMap> {
        ReadMap::new(&self.cached).ok()
    }
}

//! The durable position, published for readers in other processes.
//!
//! One 8-byte number in the file `published`, written after the bytes below it are durable and never synced itself:
//! whatever version of it survives, it never says more than is true.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::medium::pmem::SharedWord;
use crate::medium::{Access, Medium};

pub(crate) const NAME: &str = "published";

/// Where the writer publishes.
pub(crate) enum Publisher {
    /// One pwrite each.
    File(File),
    /// One store each.
    Mapped(SharedWord),
    /// A simulated journal has no readers.
    #[cfg(test)]
    Nowhere,
}

impl Publisher {
    pub(crate) fn create(dir: &Path, mapped: bool) -> io::Result<Publisher> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(NAME))?;
        // Real bytes, not a hole: a store into a hole on a full disk would be a signal.
        let mut bytes = [0; 4096];
        let _ = file.read_at(&mut bytes[..8], 0)?;
        file.write_all_at(&bytes, 0)?;
        Ok(if mapped {
            Publisher::Mapped(SharedWord::map(&file)?)
        } else {
            Publisher::File(file)
        })
    }

    /// `position` and everything below it is durable.
    #[inline]
    pub(crate) fn publish(&self, position: u64) -> io::Result<()> {
        match self {
            Publisher::File(file) => write(file, position),
            Publisher::Mapped(word) => {
                word.store(position);
                Ok(())
            }
            #[cfg(test)]
            Publisher::Nowhere => Ok(()),
        }
    }
}

/// Apart from the store, which is part of every append on persistent memory.
#[inline(never)]
fn write(file: &File, position: u64) -> io::Result<()> {
    file.write_all_at(&position.to_le_bytes(), 0)
}

/// When it was last written by a call; every writer does so when it opens the journal.
pub(crate) fn written(dir: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(dir.join(NAME))
        .and_then(|meta| meta.modified())
        .ok()
}

/// Says nothing any more, durably: for when the journal is about to be cut.
pub(crate) fn reset(medium: &dyn Medium) -> io::Result<()> {
    let file = match medium.open(NAME, Access::Write) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    file.write_at(0, &[0; 8])?;
    file.sync()
}

/// The published position; 0 if there is none.
pub(crate) fn read(dir: &Path) -> io::Result<u64> {
    let file = match File::open(dir.join(NAME)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let once = || -> io::Result<u64> {
        let mut bytes = [0; 8];
        let n = file.read_at(&mut bytes, 0)?;
        Ok(if n == 8 { u64::from_le_bytes(bytes) } else { 0 })
    };
    // The kernel does not promise that 8 bytes are copied at once; two equal readings were.
    let mut before = once()?;
    loop {
        let now = once()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

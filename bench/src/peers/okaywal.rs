//! okaywal: an entry is a commit, an event is a chunk of it.
//!
//! As it comes it is a write-ahead log for somebody else's storage: a file of 768 KiB is checkpointed, that is handed to that
//! storage, which here takes nothing, and then written over. So there are two of it: as it comes, which has lost all but the
//! last events when it ends, and told to checkpoint nothing, which has them all as the other logs do.

use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::Append;
use crate::appends::Log;
use crate::error::{Error, doing};

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    WriteAheadLog::recover(folder, LogVoid)
        .map(|log| Box::new(Okaywal(log)) as _)
        .map_err(doing("opening okaywal"))
}

pub(super) fn open_keeping(folder: &Path) -> Result<Box<dyn Log>, Error> {
    Configuration::default_for(folder)
        .checkpoint_after_bytes(u64::MAX)
        .open(LogVoid)
        .map(|log| Box::new(Okaywal(log)) as _)
        .map_err(doing("opening okaywal"))
}

struct Okaywal(WriteAheadLog);

impl Log for Okaywal {
    fn writer<'a>(&'a self, _: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        Ok(Box::new(move || {
            let append = || {
                let mut entry = self.0.begin_entry()?;
                for _ in 0..batch {
                    entry.write_chunk(event)?;
                }
                entry.commit()
            };
            append().map(drop).map_err(doing("appending to okaywal"))
        }))
    }
}

//! okaywal: an entry is a commit, an event is a chunk of it.

use std::path::Path;

use okaywal::{LogVoid, WriteAheadLog};

use super::Append;
use crate::appends::Log;
use crate::error::{Error, doing};

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    WriteAheadLog::recover(folder, LogVoid)
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

//! One writer at a time: an flock on the file `LOCK`, in which the holder notes its process id.
//!
//! The kernel drops the lock when the holder dies, however it dies.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

const NAME: &str = "LOCK";

/// Held for as long as it lives.
pub(crate) struct WriterLock {
    _file: File,
}

impl WriterLock {
    pub(crate) fn take(dir: &Path) -> Result<WriterLock> {
        let path = dir.join(NAME);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let note = format!("{:<20}\n", std::process::id());
                file.write_all_at(note.as_bytes(), 0)
                    .map_err(Error::io("write", &path))?;
                Ok(WriterLock { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut note = String::new();
                let _ = (&mut file).take(64).read_to_string(&mut note);
                let holder = match note.trim() {
                    "" => "unknown".to_owned(),
                    pid => pid.to_owned(),
                };
                Err(Error::Locked {
                    dir: dir.to_owned(),
                    holder,
                })
            }
            Err(e) => Err(Error::io("lock", path)(e.into())),
        }
    }

    /// Whether a writer holds it now.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(NAME)) else {
            return false;
        };
        // A shared lock, dropped at once with the file: a writer that comes in this instant would be refused, so it
        // tries again (see `Journal::open`).
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }
}

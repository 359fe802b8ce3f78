//! One writer at a time: an flock on the file `LOCK`, in which the holder notes its process id.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::flock::Flock;

const NAME: &str = "LOCK";

/// Held for as long as it lives.
pub(crate) struct WriterLock {
    _file: Flock,
}

impl WriterLock {
    pub(crate) fn take(dir: &Path) -> Result<WriterLock> {
        let path = dir.join(NAME);
        match Flock::take_path(&path)? {
            Ok(file) => {
                let note = format!("{:<20}\n", std::process::id());
                file.file()
                    .write_all_at(note.as_bytes(), 0)
                    .map_err(Error::io("write", &path))?;
                Ok(WriterLock { _file: file })
            }
            Err(mut file) => {
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
        }
    }

    /// Whether a writer holds it now.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(NAME)) else {
            return false;
        };
        // A shared lock, dropped at once with the file: a writer that comes in this instant would be refused, so it
        // tries again (see `Journal::open`).
        !matches!(
            Flock::take(file, FlockOperation::NonBlockingLockShared),
            Ok(Ok(_))
        )
    }
}

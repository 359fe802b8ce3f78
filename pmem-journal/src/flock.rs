//! An flock that ends when it is dropped, and not later.
//!
//! Closing the file alone would let it last until every copy of the descriptor is closed: a process that another thread is starting
//! has one between its fork and its exec. The kernel ends it when the holder dies, however it dies.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;

/// Held for as long as it lives.
pub(crate) struct Flock(File);

impl Flock {
    /// Takes the file at `path`, which is made if need be, for the caller alone: see [`Flock::take`].
    pub(crate) fn take_path(path: &Path) -> Result<Result<Flock, File>, Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("open", path))?;
        Flock::take(file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io("lock", path))
    }

    /// Takes it without waiting; the file is given back while somebody else holds it.
    pub(crate) fn take(file: File, operation: FlockOperation) -> io::Result<Result<Flock, File>> {
        match flock(&file, operation) {
            Ok(()) => Ok(Ok(Flock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Err(file)),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Flock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_holder_though_the_descriptor_was_copied() {
        let home = tempfile::tempdir().unwrap();
        let take = || {
            let file = File::open(home.path()).unwrap();
            Flock::take(file, FlockOperation::NonBlockingLockExclusive).unwrap()
        };
        let Ok(held) = take() else {
            panic!("nobody holds it");
        };
        let copied = held.file().try_clone().unwrap();
        assert!(take().is_err());
        drop(held);
        assert!(take().is_ok());
        drop(copied);
    }
}

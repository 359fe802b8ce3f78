//! One at a time: who changes sealed segments (drops, compacts, moves them), or who copies them all.
//!
//! A shared or exclusive flock on the journal's directory itself. The writer's appends never take it, and readers do
//! not either: they notice a segment that went.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::flock::Flock;

/// Held for as long as it lives.
pub(crate) struct Upkeep {
    _directory: Flock,
}

impl Upkeep {
    /// To change sealed segments; `None` while somebody copies them.
    pub(crate) fn to_change(dir: &Path) -> Result<Option<Upkeep>> {
        Upkeep::take(dir, FlockOperation::NonBlockingLockExclusive)
    }

    /// To copy them; `None` while somebody changes them.
    pub(crate) fn to_copy(dir: &Path) -> Result<Option<Upkeep>> {
        Upkeep::take(dir, FlockOperation::NonBlockingLockShared)
    }

    fn take(dir: &Path, operation: FlockOperation) -> Result<Option<Upkeep>> {
        let directory = File::open(dir).map_err(Error::io("open", dir))?;
        let taken = Flock::take(directory, operation).map_err(Error::io("lock", dir))?;
        Ok(taken.ok().map(|directory| Upkeep {
            _directory: directory,
        }))
    }
}

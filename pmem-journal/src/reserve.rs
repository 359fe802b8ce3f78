//! Space set aside for the day the disk is full: what makes room (dropping, compacting, snapshots) can still write.
//!
//! The reserve is a file of zeroes. What has no room is written over it, in blocks that are the journal's already, so
//! nobody else can take them in between; the file is then cut and renamed to what it has become, and what it gave up is
//! set aside anew, then or as soon as there is room. Losing it loses nothing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::medium::{Access, Medium};

/// Name of the file.
pub(crate) const NAME: &str = "reserve";
/// Largest reserve in bytes.
pub(crate) const MAX: u64 = 1 << 30;
/// What is not worth setting aside.
const LEAST: u64 = 4096;

/// The reserve of a journal that is being written.
pub(crate) struct Reserve {
    medium: Arc<dyn Medium>,
    wanted: u64,
    /// The innermost lock: who holds it takes no other.
    making: Mutex<()>,
}

impl Reserve {
    /// Of so many bytes, at most [`MAX`]; none are set aside before the first [`Reserve::refill`].
    pub(crate) fn new(medium: Arc<dyn Medium>, wanted: u64) -> Reserve {
        Reserve {
            medium,
            wanted: wanted.min(MAX),
            making: Mutex::new(()),
        }
    }

    /// The directory that it is in.
    pub(crate) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Held by who makes any other file of the journal, while that takes its room. For a moment the reserve is free space:
    /// between what was written over a part of it and the rest that is set aside anew.
    pub(crate) fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a file, over the reserve if the disk is full.
    pub(crate) fn store(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.medium.store(name, bytes) {
            Err(e) if is_full(&e) => {
                let _making = self.making();
                if self.held() < bytes.len() as u64 {
                    return Err(e);
                }
                let stored = self.medium.store_over(NAME, name, bytes);
                self.set_aside();
                stored
            }
            other => other,
        }
    }

    /// Bytes set aside now.
    pub(crate) fn held(&self) -> u64 {
        let file = self.medium.open(NAME, Access::Read);
        file.and_then(|file| file.len()).unwrap_or(0)
    }

    /// Makes the reserve if it is missing or too small, as far as there is room, or removes it if it is not wanted.
    pub(crate) fn refill(&self) {
        let _making = self.making();
        self.set_aside();
    }

    /// A full disk, which the reserve is for, is no reason to fail.
    fn set_aside(&self) {
        let held = self.held();
        if self.wanted == 0 && held > 0 {
            let _ = self.medium.remove(NAME);
            return;
        }
        if held >= self.wanted {
            return;
        }
        let mut bytes = self.wanted;
        // Half of it is better than none, and none is better than giving up what there is.
        while let Err(e) = self.medium.store(NAME, &vec![0; bytes as usize])
            && is_full(&e)
            && bytes / 2 > held.max(LEAST)
        {
            bytes /= 2;
        }
    }
}

/// Whether a lack of space is the reason.
fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

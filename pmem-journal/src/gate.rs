//! Where appends wait for the sync that makes them durable.
//!
//! Whoever waits notes, under the journal's lock, how many syncs have ended; each end opens the gate once. So no end is
//! missed, and whoever is durable then goes on without taking the journal's lock again (`tests/model_checked.rs`).

use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, PoisonError};

/// Opens whenever a sync has ended.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    durable: AtomicU64,
    ended: Mutex<u64>,
    opened: Condvar,
}

impl Gate {
    /// A sync has ended, well or badly; it is the `ended`th, and everything below `durable` is durable.
    pub(crate) fn open(&self, ended: u64, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        let mut now = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *now = ended.max(*now);
        drop(now);
        self.opened.notify_all();
    }

    /// Waits until more than `seen` syncs have ended, and says what is durable.
    pub(crate) fn wait(&self, seen: u64) -> u64 {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while *ended <= seen {
            ended = self.opened.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
        self.durable.load(Ordering::Acquire)
    }
}

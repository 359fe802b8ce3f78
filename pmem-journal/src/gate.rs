//! Where appends wait for the sync that makes them durable.
//!
//! Whoever waits notes, under the journal's lock, how many syncs have ended; each end opens the gate once. So no end is
//! missed, and whoever is durable then goes on without taking a lock (`tests/model_checked.rs`).

use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, Patience, PoisonError, Thread, current, park};

/// So many of those who wait look again and again for a while, which keeps a core from falling asleep: waking it costs as
/// much as a quick sync. The others sleep at once.
const WATCHERS: usize = 1;

/// Opens whenever a sync has ended.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    ended: AtomicU64,
    durable: AtomicU64,
    watchers: AtomicUsize,
    sleepers: Mutex<Vec<Thread>>,
}

impl Gate {
    /// A sync has ended, well or badly; it is the `ended`th, and everything below `durable` is durable.
    pub(crate) fn open(&self, ended: u64, durable: u64) {
        self.durable.fetch_max(durable, Ordering::AcqRel);
        self.ended.fetch_max(ended, Ordering::AcqRel);
        // Taken after the count: who is not in it yet sees the count.
        let sleepers = std::mem::take(&mut *self.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
        for sleeper in sleepers {
            sleeper.unpark();
        }
    }

    /// Waits until more than `seen` syncs have ended, and says what is durable.
    pub(crate) fn wait(&self, seen: u64, mut patience: Patience) -> u64 {
        if self.watchers.fetch_add(1, Ordering::Relaxed) < WATCHERS {
            while self.ended.load(Ordering::Acquire) <= seen && patience.goes_on() {}
        }
        self.watchers.fetch_sub(1, Ordering::Relaxed);
        while self.ended.load(Ordering::Acquire) <= seen {
            let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            if self.ended.load(Ordering::Acquire) > seen {
                break;
            }
            sleepers.push(current());
            drop(sleepers);
            park();
        }
        self.durable.load(Ordering::Acquire)
    }
}

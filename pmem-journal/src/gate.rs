//! Where appends wait for the sync that makes them durable.
//!
//! Whoever waits notes, under the journal's lock, how many syncs have ended; each end opens the gate once. So no end is
//! missed, and whoever is durable then goes on without taking a lock (`tests/model_checked.rs`).

use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, Patience, PoisonError, Thread, current, park};

/// Opens whenever a sync has ended.
#[derive(Debug)]
pub(crate) struct Gate {
    ended: AtomicU64,
    durable: AtomicU64,
    most_watchers: usize,
    watchers: AtomicUsize,
    sleepers: Mutex<Vec<Thread>>,
}

impl Gate {
    /// Of those who wait `watchers` look again and again for a while, which keeps as many cores from falling asleep: waking
    /// one costs as much as a quick sync. The others sleep at once.
    pub(crate) fn new(watchers: usize) -> Gate {
        Gate {
            ended: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            most_watchers: watchers,
            watchers: AtomicUsize::new(0),
            sleepers: Mutex::new(Vec::new()),
        }
    }

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
        if self.watchers.fetch_add(1, Ordering::Relaxed) < self.most_watchers {
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

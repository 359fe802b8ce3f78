//! The durable position, published to readers in the writer's own process: they sleep until it moves.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, PoisonError, fence, wait_for};

/// Says up to which log position everything is durable, and wakes those who wait for more.
#[derive(Debug, Default)]
pub(crate) struct Published {
    position: AtomicU64,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Published {
    /// `position` and everything below it is durable.
    pub(crate) fn publish(&self, position: u64) {
        self.position.store(position, Ordering::Release);
        // The store and the load must not change places, nor must a sleeper's: whoever comes second sees the other.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            self.wake();
        }
    }

    /// As [`Published::publish`], and wakes nobody: the full fence that a wake-up needs would wait for the
    /// non-temporal stores of the append, which costs more than the append.
    pub(crate) fn publish_quietly(&self, position: u64) {
        self.position.store(position, Ordering::Release);
    }

    #[cold]
    fn wake(&self) {
        // Held for an instant, so that a sleeper is either before its look at the position or asleep.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_all();
    }

    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Waits until the position is beyond `seen`, for `most` at the longest, and says what it is.
    pub(crate) fn wait_beyond(&self, seen: u64, most: Duration) -> u64 {
        let deadline = Instant::now().checked_add(most);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.position() <= seen {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => most,
            };
            if left.is_zero() {
                break;
            }
            guard = wait_for(&self.moved, guard, left);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        self.position()
    }
}

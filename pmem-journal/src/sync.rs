//! The synchronization that the model checker replaces by its own (`tests/model_checked.rs`).

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread::{Thread, current, park};
use std::time::{Duration, Instant};

/// Waits on the condition variable, for `most` at the longest.
pub(crate) fn wait_for<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    most: Duration,
) -> MutexGuard<'a, T> {
    match condvar.wait_timeout(guard, most) {
        Ok((guard, _)) => guard,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

/// How long to look again and again before sleeping.
pub(crate) struct Patience(Instant);

impl Patience {
    pub(crate) fn new(most: Duration) -> Patience {
        Patience(Instant::now() + most)
    }

    /// Lets others run; false once it is over.
    pub(crate) fn goes_on(&mut self) -> bool {
        std::thread::yield_now();
        Instant::now() < self.0
    }
}

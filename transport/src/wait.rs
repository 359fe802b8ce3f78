//! Waiting: how a thread spends the time in which nothing arrives, and how it is woken without losing a wake-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// What a driving thread does while nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Polls without pause. Lowest latency; a whole core for each thread that waits. Where there are fewer cores than
    /// spinning threads this is far slower than [`Wait::Adaptive`].
    Spin,
    /// Polls for `spin`, then gives its time slice away between polls for `yields`, then sleeps.
    Adaptive {
        /// How long to poll without pause.
        spin: Duration,
        /// How long to poll with `sched_yield` in between.
        yields: Duration,
    },
    /// Sleeps at once: least CPU, latency of a wake-up.
    Park,
}

impl Default for Wait {
    /// Adaptive: 100 microseconds of polling (none where there is one core), as long again with yields.
    fn default() -> Wait {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = if cores > 1 {
            Duration::from_micros(100)
        } else {
            Duration::ZERO
        };
        Wait::Adaptive {
            spin,
            yields: Duration::from_micros(100),
        }
    }
}

/// What to do after a poll that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Poll again.
    Poll,
    /// Sleep until something happens.
    Sleep,
}

/// How long this thread has been idle, and what [`Wait`] makes of it.
pub(crate) struct Idle {
    wait: Wait,
    polls: u32,
    since: Option<Instant>,
    elapsed: Duration,
}

/// Empty polls between two looks at the clock: reading it may cost more than a poll.
const POLLS_PER_CLOCK: u32 = 32;

impl Idle {
    pub(crate) fn new(wait: Wait) -> Idle {
        Idle {
            wait,
            polls: 0,
            since: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Something arrived: waiting starts anew.
    #[inline]
    pub(crate) fn reset(&mut self) {
        if self.polls != 0 {
            *self = Idle::new(self.wait);
        }
    }

    /// A poll found nothing.
    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        let Wait::Adaptive { spin, yields } = self.wait else {
            std::hint::spin_loop();
            return if self.wait == Wait::Spin {
                Step::Poll
            } else {
                Step::Sleep
            };
        };
        if self.polls.is_multiple_of(POLLS_PER_CLOCK) {
            self.elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        }
        self.polls = self.polls.wrapping_add(1).max(1);
        if self.elapsed < spin {
            std::hint::spin_loop();
            Step::Poll
        } else if self.elapsed < spin + yields {
            thread::yield_now();
            // The clock is cheap beside the yield.
            self.elapsed = self.since.map_or(self.elapsed, |since| since.elapsed());
            Step::Poll
        } else {
            Step::Sleep
        }
    }
}

/// Those who wait for a condition: threads or tasks, by their wakers.
///
/// No wake-up is lost: a waiter registers and then looks at the condition once more; a waker changes the condition
/// and then looks for waiters; a sequentially consistent fence on each side makes at least one see the other.
#[derive(Default)]
pub(crate) struct WaitList {
    anybody: AtomicBool,
    wakers: sync::Mutex<Vec<Waker>>,
}

impl WaitList {
    /// Registers; the caller must then look at the condition again before it sleeps.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut wakers = self.wakers();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        self.anybody.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Wakes everybody who registered. Call after the condition has changed.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.anybody.load(Ordering::Relaxed) {
            self.wake_registered();
        }
    }

    /// Takes a waker off the list, because whoever waited with it does no more. It is woken once, since others may have registered
    /// with the same one: they look again.
    fn leave(&self, waker: &Waker) {
        let left = {
            let mut wakers = self.wakers();
            let place = wakers.iter().position(|known| known.will_wake(waker));
            place.map(|place| wakers.swap_remove(place))
        };
        if let Some(waker) = left {
            waker.wake();
        }
    }

    fn wakers(&self) -> sync::MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn wake_registered(&self) {
        let woken = {
            let mut wakers = self.wakers();
            self.anybody.store(false, Ordering::Relaxed);
            std::mem::take(&mut *wakers)
        };
        for waker in woken {
            waker.wake();
        }
    }
}

/// Whoever waits, on each list that it has registered with. Dropped, it is on none of them: also a task that has given up is then
/// held by nobody.
#[derive(Default)]
pub(crate) struct Place<'l> {
    waker: Option<Waker>,
    lists: [Option<&'l WaitList>; 3],
}

impl<'l> Place<'l> {
    /// As [`WaitList::register`].
    pub(crate) fn register(&mut self, list: &'l WaitList, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.leave();
            self.waker = Some(waker.clone());
        }
        list.register(waker);
        let mut lists = self.lists.iter_mut();
        let place = lists.find(|place| place.is_none_or(|known| std::ptr::eq(known, list)));
        debug_assert!(place.is_some(), "nobody waits for more than three things");
        if let Some(place) = place {
            *place = Some(list);
        }
    }

    /// As [`Place::register`], with each of them.
    pub(crate) fn register_all(&mut self, lists: impl IntoIterator<Item = &'l WaitList>, waker: &Waker) {
        lists.into_iter().for_each(|list| self.register(list, waker));
    }

    fn leave(&mut self) {
        if let Some(waker) = self.waker.take() {
            for list in std::mem::take(&mut self.lists).into_iter().flatten() {
                list.leave(&waker);
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static THIS_THREAD: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// A waker that unparks the calling thread.
pub(crate) fn thread_waker() -> Waker {
    THIS_THREAD.with(Waker::clone)
}

/// Locks; a thread that panicked while it held the lock left data that is still whole, because no critical section
/// of this crate calls code of others.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], without waiting.
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<std::sync::MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_waiting_spins_then_yields_then_sleeps_and_starts_anew_after_a_reset() {
        let wait = Wait::Adaptive {
            spin: Duration::from_millis(2),
            yields: Duration::from_millis(2),
        };
        let mut idle = Idle::new(wait);
        for _ in 0..2 {
            let start = Instant::now();
            while idle.step() == Step::Poll {
                assert!(start.elapsed() < Duration::from_secs(5));
            }
            assert!(start.elapsed() >= Duration::from_millis(4));
            assert_eq!(idle.step(), Step::Sleep);
            idle.reset();
        }
    }

    #[test]
    fn a_wake_up_between_registering_and_sleeping_is_not_lost() {
        let list = Arc::new(WaitList::default());
        let flag = Arc::new(AtomicBool::new(false));
        for _ in 0..2_000 {
            flag.store(false, Ordering::Relaxed);
            let (their_list, their_flag) = (list.clone(), flag.clone());
            let other = thread::spawn(move || {
                their_flag.store(true, Ordering::Relaxed);
                their_list.wake_all();
            });
            let started = Instant::now();
            while !flag.load(Ordering::Relaxed) {
                list.register(&thread_waker());
                if !flag.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_secs(10));
                }
            }
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "slept through its wake-up"
            );
            other.join().unwrap();
        }
    }
}

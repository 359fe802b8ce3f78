//! The gate before a link's sender: one thread at a time pushes, nobody waits to, and nothing that was committed stays behind.

use std::sync::{PoisonError, TryLockError};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Nobody pushes.
const OPEN: u64 = 0;
/// Somebody pushes what was committed before.
const TAKEN: u64 = 1;
/// Somebody pushes, and is to push once more: something was committed since.
const MARKED: u64 = 2;

/// Lets one thread at a time push, and has it push for those who find the gate taken.
///
/// No commit stays behind: who has committed passes the open gate, and pushes, or marks the gate; who has passed leaves only
/// if there is no mark, and otherwise takes it and pushes once more. The state is changed by read-modify-writes alone, so
/// that they have one order and whoever takes a mark sees all that was committed before any of the marks up to it: either
/// the mark is there when somebody wants to leave, or the gate was open and whoever marked it has passed.
pub(crate) struct Gate<S> {
    state: AtomicU64,
    /// How many pushes there have been. Written by the thread inside alone.
    pushes: AtomicU64,
    sender: Mutex<Option<S>>,
}

impl<S> Gate<S> {
    pub(crate) fn new(sender: Option<S>) -> Gate<S> {
        Gate {
            state: AtomicU64::new(OPEN),
            pushes: AtomicU64::new(0),
            sender: Mutex::new(sender),
        }
    }

    /// Puts another sender in the place of the one that there was, or none. Whoever puts one must push next: what was
    /// committed meanwhile went nowhere.
    pub(crate) fn put(&self, sender: Option<S>) {
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }

    /// Has everything pushed that this thread has committed: by `push`, or by the thread that is pushing. Where `push` says
    /// that the sender has failed, which is false, the sender is dropped; no other takes its place before that.
    #[inline]
    pub(crate) fn pass(&self, mut push: impl FnMut(&mut S) -> bool) {
        // Mostly nobody is inside, and there is no mark to take.
        let mut marked = self
            .state
            .compare_exchange(OPEN, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
            .is_err();
        if marked && self.state.swap(MARKED, Ordering::AcqRel) != OPEN {
            return;
        }
        let inside = Inside(self);
        loop {
            if marked {
                self.state.swap(TAKEN, Ordering::Acquire);
            }
            // Locked only by who puts another sender there, and pushes afterwards.
            let place = match self.sender.try_lock() {
                Ok(place) => Some(place),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(mut place) = place
                && let Some(sender) = place.as_mut()
                && !push(sender)
            {
                *place = None;
            }
            let pushes = self.pushes.load(Ordering::Relaxed);
            self.pushes.store(pushes.wrapping_add(1), Ordering::Relaxed);
            // The place is let go of by now: it can be left only together with the gate.
            let left = self
                .state
                .compare_exchange_weak(TAKEN, OPEN, Ordering::Relaxed, Ordering::Relaxed);
            if left.is_ok() {
                std::mem::forget(inside);
                return;
            }
            marked = true;
        }
    }

    /// Pauses until what this thread had pushed, by a call of [`Gate::pass`], was pushed: at most for the push that is under way and
    /// the next. Who has much to push calls it before it commits more. The thread inside has come with something of its own, and
    /// would stay for as long as others mark the gate.
    pub(crate) fn see_pushed(&self, pause: impl Fn()) {
        let before = self.pushes.load(Ordering::Relaxed);
        let taken_along = || self.pushes.load(Ordering::Relaxed).wrapping_sub(before) >= 2;
        while self.state.load(Ordering::Relaxed) != OPEN && !taken_along() {
            pause();
        }
    }

    /// Orders this thread among those who pass: either they see what it has done before, or it sees what they have.
    pub(crate) fn settle(&self) {
        self.state.fetch_or(0, Ordering::AcqRel);
    }
}

/// Opens the gate again should a push panic.
struct Inside<'g, S>(&'g Gate<S>);

impl<S> Drop for Inside<'_, S> {
    fn drop(&mut self) {
        self.0.state.swap(OPEN, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn who_has_much_to_push_pauses_until_another_has_pushed_it_and_no_longer() {
        let gate = Gate::new(Some(()));
        let (begun, next) = channel();
        let (go_on, going_on) = channel::<()>();
        let pauses = AtomicUsize::new(0);
        thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || {
                gate.pass(|()| {
                    begun.send(()).unwrap();
                    going_on.recv().unwrap();
                    true
                });
            });
            next.recv().unwrap();
            // Finds the gate taken, and has the other thread push once more, ...
            gate.pass(|()| unreachable!("somebody else is inside"));
            gate.see_pushed(|| {
                // ... which it has done neither when this push ends nor when the next begins; ...
                if pauses.fetch_add(1, Ordering::Relaxed) == 0 {
                    go_on.send(()).unwrap();
                    next.recv().unwrap();
                    // ... what others have it push after that is nothing to pause for.
                    gate.pass(|()| unreachable!("somebody else is inside"));
                    go_on.send(()).unwrap();
                }
                thread::yield_now();
            });
            assert!(pauses.load(Ordering::Relaxed) > 0);
            next.recv().unwrap();
            go_on.send(()).unwrap();
        });
        gate.see_pushed(|| unreachable!("nobody is inside"));
    }
}

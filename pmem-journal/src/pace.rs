//! The pace at which the next segment is filled with zeroes.
//!
//! They go to the same disk as the appends. Written at once, some tens of mebibytes of them would stand in the disk's queue
//! before every commit; so while the journal is being written they go at its pace, a step at a time, and no faster.

use std::cell::Cell;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::medium::ZEROES_STEP;
use crate::published::Published;

/// Without an append for so long, the journal is idle, and the zeroes are in nobody's way.
const IDLE: Duration = Duration::from_millis(10);
/// Between two looks at how far the journal is.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Urge {
    /// The journal has room.
    #[default]
    None,
    /// An append waits for the segment.
    Needed,
    /// The journal is being closed.
    Unwanted,
}

/// What the owner wants of the thread, and wakes it for.
#[derive(Default)]
pub(crate) struct Urgency {
    urge: Mutex<Urge>,
    changed: Condvar,
}

impl Urgency {
    pub(crate) fn set(&self, urge: Urge) {
        *self.urge.lock().unwrap_or_else(PoisonError::into_inner) = urge;
        self.changed.notify_all();
    }

    /// What is wanted, after `most` at the latest if that is nothing.
    fn wait(&self, most: Duration) -> Urge {
        let urge = self.urge.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(urge, most, |urge| *urge == Urge::None);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How far the making of one spare may be.
pub(crate) struct Pace<'a> {
    from: u64,
    written: &'a Published,
    urgency: &'a Urgency,
    /// How far the journal was when it was last seen to move, and when that was.
    moved: Cell<(u64, Instant)>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(from: u64, written: &'a Published, urgency: &'a Urgency) -> Pace<'a> {
        Pace {
            from,
            written,
            urgency,
            moved: Cell::new((written.position(), Instant::now())),
        }
    }

    /// Returns when the step behind `done` bytes may be made: the spare is to be ready when three quarters of a segment of
    /// its size are written. An error if nobody wants it any more.
    pub(crate) fn wait(&self, done: u64) -> io::Result<()> {
        let mut patience = Duration::ZERO;
        loop {
            match self.urgency.wait(patience) {
                Urge::Needed => return Ok(()),
                Urge::Unwanted => return Err(io::ErrorKind::Interrupted.into()),
                Urge::None => {}
            }
            patience = LOOK;
            let position = self.written.position();
            let (last, since) = self.moved.get();
            if position != last {
                self.moved.set((position, Instant::now()));
            } else if since.elapsed() >= IDLE {
                return Ok(());
            }
            let written = position.saturating_sub(self.from);
            if done <= written.saturating_add(written / 3).saturating_add(ZEROES_STEP) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace_of(written: &Published, check: impl FnOnce(&Pace<'_>, &Urgency)) {
        let urgency = Urgency::default();
        check(&Pace::new(1000, written, &urgency), &urgency);
    }

    #[test]
    fn the_first_steps_wait_for_nobody_and_later_ones_for_the_journal() {
        let written = Published::default();
        written.publish(1000 + 3 * ZEROES_STEP);
        let start = Instant::now();
        pace_of(&written, |pace, _| {
            pace.wait(0).unwrap();
            pace.wait(5 * ZEROES_STEP).unwrap();
            // Beyond the pace: let through because the journal is idle, and not before.
            pace.wait(6 * ZEROES_STEP).unwrap();
            assert!(start.elapsed() >= IDLE, "{:?}", start.elapsed());
        });
    }

    #[test]
    fn a_segment_that_is_needed_is_made_at_once_and_one_that_is_not_wanted_is_given_up() {
        let written = Published::default();
        pace_of(&written, |pace, urgency| {
            urgency.set(Urge::Needed);
            pace.wait(u64::MAX).unwrap();
            urgency.set(Urge::Unwanted);
            assert!(pace.wait(0).is_err());
        });
    }
}

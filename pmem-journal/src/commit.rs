//! One sync for all who wait.
//!
//! The first thread that finds nobody syncing becomes the leader: it takes everything pending, writes and syncs it
//! outside the lock, and wakes the others. While it syncs, others add to the next group. A leader expects as many
//! appends as the last group had, and yields the CPU for a bounded time until they have come: without that, the
//! threads woken by one sync would split over the next two.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::journal::{Journal, State};

/// The group that is gathering, and what the last ones were like.
#[derive(Default)]
pub(crate) struct Group {
    syncing: bool,
    appends: u32,
    expected: u32,
    last_sync: Duration,
    /// The buffer not in use, kept for its capacity.
    idle: Vec<u8>,
}

impl Journal {
    /// Waits until the log is durable up to `end`, syncing if nobody else does.
    pub(crate) fn commit_together(&self, mut state: MutexGuard<'_, State>, end: u64) -> Result<()> {
        state.group.appends += 1;
        self.commit_until(state, end).map(drop)
    }

    /// As [`Journal::commit_together`], for somebody who has appended nothing.
    pub(crate) fn commit_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        end: u64,
    ) -> Result<MutexGuard<'a, State>> {
        loop {
            if state.durable >= end {
                return Ok(state);
            }
            state.refuse_if_poisoned()?;
            state = if state.group.syncing {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                state.group.syncing = true;
                self.lead(state)
            };
        }
    }

    /// Gathers, writes, syncs and wakes.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state = self.gather(state);
        let idle = std::mem::take(&mut state.group.idle);
        let bytes = std::mem::replace(&mut state.pending, idle);
        let segment = Arc::clone(&state.segment);
        let (log_end, next_position) = (state.log_end(), state.next_position());
        state.group.expected = state.group.appends;
        state.group.appends = 0;
        drop(state);

        let started = Instant::now();
        let at = segment.header.offset_of(log_end) - bytes.len() as u64;
        let written = segment
            .file
            .write_at(at, &bytes)
            .and_then(|()| segment.file.commit());

        let mut state = self.lock();
        state.group.last_sync = started.elapsed();
        state.group.idle = bytes;
        state.group.idle.clear();
        state.group.syncing = false;
        // The error reaches every waiter through the poison.
        let _: std::result::Result<(), Error> = match written {
            Ok(()) => state.committed(log_end, next_position),
            Err(e) => Err(state.poison(&format!("a write or sync failed: {e}"))),
        };
        self.changed.notify_all();
        state
    }

    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.group.appends >= state.group.expected {
            return state;
        }
        let cap = self.gather.min(state.group.last_sync);
        let started = Instant::now();
        while state.group.appends < state.group.expected && started.elapsed() < cap {
            drop(state);
            std::thread::yield_now();
            state = self.lock();
        }
        state
    }
}

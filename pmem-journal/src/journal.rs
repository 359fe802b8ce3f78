//! The writer's handle: appends and closes.
//!
//! An append returns only when its whole batch is durable. A mapped journal commits under the lock, because a fence
//! costs less than handing over; a file journal gathers the batches of all threads that wait and syncs once for
//! them (`commit.rs`). Any failure after which it is unknown what is durable poisons the handle.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::Taken;
use crate::error::{Error, Result};
use crate::event::{Appended, EntityId, Event, Expected};
use crate::gate::Gate;
use crate::mode::Probe;
use crate::published::Published;
use crate::reader::Reader;
use crate::replay::Replay;
use crate::reserve::Reserve;
use crate::span::Span;
use crate::state::State;

/// A journal open for appending. Share it between threads by reference or `Arc`.
pub struct Journal {
    pub(crate) dir: PathBuf,
    pub(crate) probe: Probe,
    pub(crate) gather: Duration,
    pub(crate) mapped: bool,
    pub(crate) state: Mutex<State>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) published: Arc<Published>,
    pub(crate) reserve: Arc<Reserve>,
    /// Held while segments are dropped.
    pub(crate) dropping: Mutex<()>,
    /// Held while snapshots are saved.
    pub(crate) saving: Mutex<()>,
}

impl Journal {
    /// How this journal becomes durable, and why that way.
    pub fn mode(&self) -> &Probe {
        &self.probe
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Position of the first event that is not known to be durable: everything below it is.
    pub fn durable_position(&self) -> u64 {
        self.lock().durable_events
    }

    /// The entity's last sequence, 0 if it never had an event.
    pub fn sequence(&self, entity: EntityId) -> Result<u64> {
        self.lock().index.sequence(entity.0)
    }

    /// Appends the events as one batch, all or nothing, durable before this returns.
    ///
    /// A batch whose idempotency keys were all used before is not appended again: the answer is the first append's,
    /// with `duplicate` set, whatever `expected` says. Threads may call this at once.
    pub fn append(&self, events: &[Event<'_>], expected: Expected) -> Result<Appended> {
        let mut state = self.lock();
        let appended = loop {
            match state.take(events, expected)? {
                Taken::Appended(appended) => break appended,
                // Rotation lets others in: what was checked must be checked again.
                Taken::NeedsRoom(bytes) => state = self.rotate(state, bytes)?,
            }
        };
        if self.mapped {
            state.commit_here()?;
        } else if !appended.duplicate || appended.last_position >= state.durable_events {
            let end = state.log_end();
            self.commit_together(state, end)?;
        }
        Ok(appended)
    }

    /// As [`Journal::append`], for a caller that owns the journal alone: on a mapped journal it takes no lock.
    pub fn append_mut(&mut self, events: &[Event<'_>], expected: Expected) -> Result<Appended> {
        if self.mapped {
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.refuse_if_poisoned()?;
            let bytes = state.bytes_of(events)?;
            let duplicate = state.check(events, expected)?.is_some();
            if !duplicate && state.offset + bytes <= state.segment.header.events_end() {
                let Span {
                    first,
                    last,
                    sequence,
                } = state.encode(events)?;
                state.commit_here()?;
                // Made after the fence out of three numbers: moving a whole answer across it would wait for the
                // medium, and the next append may begin meanwhile.
                return Ok(Appended {
                    first_position: first,
                    last_position: last,
                    sequence,
                    duplicate: false,
                });
            }
        }
        self.append(events, expected)
    }

    /// Appends the batches with one commit, as the leader of several threads does.
    #[cfg(test)]
    pub(crate) fn append_group(&self, batches: &[Vec<Event<'_>>]) -> Result<()> {
        let mut state = self.lock();
        state.refuse_if_poisoned()?;
        let bytes: usize = batches.iter().flatten().map(crate::format::encoded_len).sum();
        if state.offset + bytes as u64 > state.segment.header.events_end() {
            state = self.rotate(state, bytes as u64)?;
        }
        for batch in batches {
            state.encode(batch)?;
        }
        if self.mapped {
            return state.commit_here();
        }
        let end = state.log_end();
        self.commit_together(state, end)
    }

    /// A reader in this process: what it reads is durable, and following wakes with each commit.
    pub fn reader(&self) -> Reader {
        let indexes = Arc::clone(self.lock().index.indexes());
        Reader::within(&self.dir, Arc::clone(&self.published), !self.mapped, indexes)
    }

    /// Events at `from` and after, up to what is durable now.
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.reader().replay(from)
    }

    /// All events kept, up to what is durable now.
    pub fn replay_kept(&self) -> Result<Replay> {
        self.reader().replay_kept()
    }

    /// Bytes that are set aside for a full disk now: less than [`Options::reserve`](crate::Options::reserve) where there is no room for more.
    pub fn reserved(&self) -> u64 {
        self.reserve.held()
    }

    /// Waits until everything taken so far is durable.
    pub(crate) fn settle(&self) -> Result<()> {
        let state = self.lock();
        let end = state.log_end();
        self.commit_until(state, end).map(drop)
    }

    /// Notes a good end in the journal and releases the lock. Dropping does the same and hides failures.
    pub fn close(self) -> Result<()> {
        let mut state = self.lock();
        state.close().map_err(Error::io("close", &self.dir))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.lock().close();
    }
}

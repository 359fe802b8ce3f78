//! One sync for all who wait.
//!
//! The first append that finds nobody syncing takes everything pending and has it written and synced: a thread does it
//! itself, outside the lock; a future hands it to a thread that sleeps otherwise. While that lasts others add to the
//! next group. A leader expects as many appends as the last group had, and yields the CPU for a bounded time until
//! they have come: without that, the threads woken by one sync would split over the next two.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::batch::Taken;
use crate::error::Result;
use crate::event::{Appended, Event, Expected};
use crate::gate::Gate;
use crate::journal::Journal;
use crate::queue::{self, Commits, Turn};
use crate::state::State;
use crate::sync::Patience;
use crate::sync_thread::{Job, SyncThread};

/// A sync that takes longer is slept through.
const LONGEST_WATCH: Duration = Duration::from_micros(200);

impl State {
    /// Takes what is pending; nobody else may until it is settled.
    fn take_job(&mut self) -> Job {
        let idle = std::mem::take(&mut self.group.idle);
        self.group.expected = std::mem::take(&mut self.group.appends);
        Job {
            bytes: std::mem::replace(&mut self.pending, idle),
            segment: Arc::clone(&self.segment),
            log_end: self.log_end(),
            next_position: self.next_position(),
        }
    }

    /// Notes what became of a job, and answers how many have ended; a failure reaches everybody through the poison.
    fn settle(&mut self, job: Job, written: io::Result<()>) -> u64 {
        self.group.idle = job.bytes;
        self.group.idle.clear();
        let ended = self.group.queue.end();
        let _ = match written {
            Ok(()) => self.committed(job.log_end, job.next_position),
            Err(e) => Err(self.poison(&format!("a write or sync failed: {e}"))),
        };
        if let Some(thread) = &self.group.sync_thread {
            thread.wake_all();
        }
        ended
    }

    /// Settles what the thread that syncs for futures has done meanwhile.
    fn settle_done(&mut self) {
        if let Some((job, written)) = self.group.sync_thread.as_ref().and_then(SyncThread::done) {
            self.settle(job, written);
        }
    }

    /// Lets that thread end, and settles what it did.
    pub(crate) fn end_sync_thread(&mut self) {
        let Some(mut thread) = self.group.sync_thread.take() else {
            return;
        };
        thread.end();
        if let Some((job, written)) = thread.done() {
            self.settle(job, written);
        }
        thread.wake_all();
    }
}

impl Commits for Journal {
    type Held<'a> = MutexGuard<'a, State>;
    type Error = crate::Error;

    fn hold(&self) -> MutexGuard<'_, State> {
        self.lock()
    }

    fn turn(&self, state: &mut MutexGuard<'_, State>, end: u64) -> Result<Turn> {
        state.settle_done();
        if state.durable < end {
            state.refuse_if_poisoned()?;
        }
        let durable = state.durable;
        Ok(state.group.queue.turn(durable, end))
    }

    fn patience(&self, state: &MutexGuard<'_, State>) -> Patience {
        let last = state.group.last_sync;
        Patience::new(if last > LONGEST_WATCH {
            Duration::ZERO
        } else {
            2 * last
        })
    }

    fn sync(&self, state: MutexGuard<'_, State>) -> (u64, u64) {
        let mut state = self.gather(state);
        let job = state.take_job();
        drop(state);

        let started = Instant::now();
        let written = job.run();
        let took = started.elapsed();

        let mut state = self.lock();
        state.group.last_sync = took;
        let ended = state.settle(job, written);
        (ended, state.durable)
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Journal {
    /// Waits until the log is durable up to `end`, syncing if nobody else does.
    pub(crate) fn commit_together<'a>(&'a self, mut state: MutexGuard<'a, State>, end: u64) -> Result<()> {
        state.group.appends += 1;
        queue::commit(self, state, end)
    }

    /// As [`Journal::commit_together`], for somebody who has appended nothing and goes on under the lock.
    pub(crate) fn commit_until<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        end: u64,
    ) -> Result<MutexGuard<'a, State>> {
        queue::commit(self, state, end)?;
        Ok(self.lock())
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

    /// As [`Journal::append`], without blocking the thread while the medium syncs: works on any executor.
    ///
    /// The batch takes its place when the future is first polled. Dropping the future after that does not take it
    /// back: it becomes durable with the next commit, or when the journal is closed. A mapped journal commits at once.
    /// Making room for the batch in a new segment blocks the thread that polls.
    pub async fn append_async(&self, events: &[Event<'_>], expected: Expected) -> Result<Appended> {
        let (appended, end) = {
            let mut state = self.lock();
            let appended = loop {
                match state.take(events, expected)? {
                    Taken::Appended(appended) => break appended,
                    Taken::NeedsRoom(bytes) => state = self.rotate(state, bytes)?,
                }
            };
            if self.mapped {
                state.commit_here()?;
                return Ok(appended);
            }
            if appended.duplicate && appended.last_position < state.durable_events() {
                return Ok(appended);
            }
            state.group.appends += 1;
            (appended, state.log_end())
        };
        poll_fn(|context| {
            let mut state = self.lock();
            state.settle_done();
            if state.durable >= end {
                return Poll::Ready(Ok::<(), crate::Error>(()));
            }
            state.refuse_if_poisoned()?;
            self.hand_over(&mut state, context.waker())?;
            Poll::Pending
        })
        .await?;
        Ok(appended)
    }

    /// Notes whom to wake, and has the thread for futures sync if nobody does.
    fn hand_over(&self, state: &mut State, waker: &Waker) -> Result<()> {
        if state.group.sync_thread.is_none() {
            let thread =
                SyncThread::start(&self.gate).map_err(crate::Error::io("start a thread for", self.dir()))?;
            state.group.sync_thread = Some(thread);
        }
        let job = (!state.group.is_syncing()).then(|| (state.take_job(), state.group.queue.begin()));
        let Some(thread) = &state.group.sync_thread else {
            return Ok(());
        };
        thread.wake_later(waker.clone());
        if let Some((job, number)) = job
            && !thread.sync(job, number)
        {
            return Err(state.poison("the thread that syncs is gone"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{Event, Expected, Journal, Mode, Options};

    /// How long a lone append takes to return where the last group was of a thousand, and its sync took so long.
    fn alone_after_a_crowd(most: Duration, last_sync: Duration) -> Duration {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new()
            .require(Mode::Buffered)
            .segment_size(64 << 10)
            .gather(most);
        let (journal, _) = Journal::open_with(dir.path(), &options).unwrap();
        {
            let group = &mut journal.lock().group;
            group.expected = 1000;
            group.last_sync = last_sync;
        }
        let started = Instant::now();
        journal
            .append(&[Event::new(1, 1, b"alone")], Expected::Any)
            .unwrap();
        started.elapsed()
    }

    #[test]
    fn who_is_expected_and_does_not_come_is_waited_for_no_longer_than_the_cap_or_a_sync() {
        const NEVER: Duration = Duration::from_secs(3600);
        let cap = Duration::from_millis(20);
        for (most, last_sync) in [(cap, NEVER), (NEVER, cap)] {
            let took = alone_after_a_crowd(most, last_sync);
            assert!(took >= cap, "it gathered for {took:?} only");
            assert!(took < Duration::from_secs(60), "it gathered for {took:?}");
        }
    }
}

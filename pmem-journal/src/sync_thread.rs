//! A thread that syncs for futures, so that whoever polls them is not blocked.
//!
//! It touches no journal: what became of a job lies here until somebody who holds the journal's lock takes it over.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;

use crate::gate::Gate;
use crate::segment::Segment;

/// Bytes to be written and synced.
pub(crate) struct Job {
    pub(crate) segment: Arc<Segment>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) log_end: u64,
    pub(crate) next_position: u64,
}

impl Job {
    pub(crate) fn run(&self) -> io::Result<()> {
        // Everything may have been written ahead.
        if !self.bytes.is_empty() {
            let at = self.segment.header.offset_of(self.log_end) - self.bytes.len() as u64;
            self.segment.file.write_at(at, &self.bytes)?;
        }
        self.segment.file.commit()
    }
}

pub(crate) struct SyncThread {
    jobs: Sender<(Job, u64)>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    done: Mutex<Option<(Job, io::Result<()>)>>,
    wakers: Mutex<Vec<Waker>>,
}

impl SyncThread {
    /// After each job it opens `gate` with the job's number.
    pub(crate) fn start(gate: &Arc<Gate>) -> io::Result<SyncThread> {
        let (jobs, todo) = channel::<(Job, u64)>();
        let shared = Arc::new(Shared::default());
        let (gate, theirs) = (Arc::clone(gate), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || {
                for (job, number) in todo {
                    let written = job.run();
                    *theirs.done.lock().unwrap_or_else(PoisonError::into_inner) = Some((job, written));
                    theirs.wake();
                    // Threads that wait settle it if no future is polled.
                    gate.open(number, 0);
                }
            })?;
        Ok(SyncThread {
            jobs,
            shared,
            thread: Some(thread),
        })
    }

    /// Has it do a job; false if it is gone.
    #[must_use]
    pub(crate) fn sync(&self, job: Job, number: u64) -> bool {
        self.jobs.send((job, number)).is_ok()
    }

    /// The last job, once it is over, and what became of it.
    pub(crate) fn done(&self) -> Option<(Job, io::Result<()>)> {
        let mut done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.take()
    }

    /// Has `waker` woken when the job under way is over.
    pub(crate) fn wake_later(&self, waker: Waker) {
        let mut wakers = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.push(waker);
    }

    pub(crate) fn wake_all(&self) {
        self.shared.wake();
    }

    /// Returns when what it was given is done.
    pub(crate) fn end(&mut self) {
        self.jobs = channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.end();
    }
}

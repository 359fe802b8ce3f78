//! Publishing to readers and waiting for a commit, model-checked: every interleaving of two threads, and of three those with at
//! most three preemptions, on the code itself, which takes its synchronization from `crate::sync` and here gets loom's.
//!
//! A lost wake-up is a deadlock to loom, and fails the test.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

mod sync {
    use std::time::Duration;

    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{Thread, current, park};

    /// Without a time limit: nothing but a wake-up ends it.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once more.
    pub(crate) struct Patience;

    impl Patience {
        pub(crate) fn goes_on(&mut self) -> bool {
            loom::thread::yield_now();
            false
        }
    }
}

#[allow(dead_code, reason = "not all of it is checked here")]
#[path = "../src/gate.rs"]
mod gate;
#[allow(dead_code, reason = "not all of it is checked here")]
#[path = "../src/published.rs"]
mod published;
#[allow(dead_code, reason = "not all of it is checked here")]
#[path = "../src/queue.rs"]
mod queue;

use gate::Gate;
use published::Published;
use queue::{Commits, Queue, Turn};

const FOR_EVER: Duration = Duration::MAX;

#[test]
fn a_reader_that_falls_asleep_while_the_writer_publishes_is_woken() {
    loom::model(|| {
        let published = Arc::new(Published::default());
        let writer = {
            let published = Arc::clone(&published);
            thread::spawn(move || published.publish(1))
        };
        assert_eq!(published.wait_beyond(0, FOR_EVER), 1);
        writer.join().unwrap();
    });
}

#[test]
fn two_readers_and_two_publishes_end_with_both_awake() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let published = Arc::new(Published::default());
        let reader = {
            let published = Arc::clone(&published);
            thread::spawn(move || assert!(published.wait_beyond(1, FOR_EVER) == 2))
        };
        let writer = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                published.publish(1);
                published.publish(2);
            })
        };
        assert!(published.wait_beyond(0, FOR_EVER) >= 1);
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

/// A log that counts what is written into it and what is durable; syncing it is a count.
struct Log {
    state: sync::Mutex<State>,
    gate: Gate,
}

#[derive(Default)]
struct State {
    written: u64,
    durable: u64,
    queue: Queue,
}

impl Commits for Log {
    type Held<'a> = sync::MutexGuard<'a, State>;
    type Error = std::convert::Infallible;

    fn hold(&self) -> Self::Held<'_> {
        self.state.lock().unwrap()
    }

    fn turn(&self, held: &mut Self::Held<'_>, end: u64) -> Result<Turn, Self::Error> {
        let durable = held.durable;
        Ok(held.queue.turn(durable, end))
    }

    fn patience(&self, _: &Self::Held<'_>) -> sync::Patience {
        sync::Patience
    }

    fn sync(&self, held: Self::Held<'_>) -> (u64, u64) {
        let all = held.written;
        drop(held);
        // The sync goes on here; others append meanwhile.
        let mut held = self.hold();
        held.durable = all;
        (held.queue.end(), all)
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }
}

fn append(log: &Log) {
    let mut held = log.hold();
    held.written += 1;
    let mine = held.written;
    queue::commit(log, held, mine).unwrap();
    assert!(log.hold().durable >= mine, "acknowledged before it was durable");
}

#[test]
fn every_append_returns_and_only_when_it_is_durable() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let log = Arc::new(Log {
            state: sync::Mutex::default(),
            // One watches, the other sleeps.
            gate: Gate::new(1),
        });
        let others: Vec<_> = (0..2)
            .map(|_| {
                let log = Arc::clone(&log);
                thread::spawn(move || append(&log))
            })
            .collect();
        append(&log);
        for other in others {
            other.join().unwrap();
        }
        let state = log.hold();
        assert_eq!(
            (state.written, state.durable, state.queue.is_syncing()),
            (3, 3, false)
        );
    });
}

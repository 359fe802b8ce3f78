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

    /// Without a time limit: nothing but a wake-up ends it.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(dead_code, reason = "not all of it is checked here")]
#[path = "../src/gate.rs"]
mod gate;
#[allow(dead_code, reason = "not all of it is checked here")]
#[path = "../src/published.rs"]
mod published;

use gate::Gate;
use published::Published;

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

/// What the journal's lock protects, as far as commits go.
#[derive(Default)]
struct State {
    written: u64,
    durable: u64,
    syncing: bool,
    ended: u64,
}

/// An append and its commit, step by step as `commit.rs` does them, without the medium.
fn append(state: &sync::Mutex<State>, gate: &Gate) {
    let mut held = state.lock().unwrap();
    held.written += 1;
    let mine = held.written;
    loop {
        if held.durable >= mine {
            return;
        }
        if held.syncing {
            let ended = held.ended;
            drop(held);
            if gate.wait(ended) >= mine {
                return;
            }
            held = state.lock().unwrap();
        } else {
            held.syncing = true;
            let all = held.written;
            drop(held);
            // The sync goes on here; others append meanwhile.
            held = state.lock().unwrap();
            held.durable = all;
            held.syncing = false;
            held.ended += 1;
            gate.open(held.ended, held.durable);
        }
    }
}

#[test]
fn every_append_returns_and_only_when_it_is_durable() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let state = Arc::new(sync::Mutex::new(State::default()));
        let gate = Arc::new(Gate::default());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (state, gate) = (Arc::clone(&state), Arc::clone(&gate));
                thread::spawn(move || append(&state, &gate))
            })
            .collect();
        append(&state, &gate);
        for other in others {
            other.join().unwrap();
        }
        let state = state.lock().unwrap();
        assert_eq!((state.written, state.durable, state.syncing), (3, 3, false));
    });
}

//! The gate before a link's sender, and the list of those who leave the pushing to another: nothing that was committed stays
//! behind, neither in a session that lives nor in one that ends at the same time.

use std::sync::Arc;

use super::explore;
use crate::peer::gate::Gate;
use crate::peer::postponed::Postponed;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What each thread has committed, and whether the session is over.
#[derive(Default)]
struct Commits {
    of_thread: [AtomicBool; 2],
    over: AtomicBool,
    /// What was lent has been copied into the ring.
    copied_in: AtomicBool,
    collected: Mutex<Collected>,
}

/// What was found when the session was over.
#[derive(Default)]
struct Collected {
    /// Whoever looks may do so.
    settled: bool,
    /// By whoever.
    found: bool,
}

impl Commits {
    fn seen(&self) -> [bool; 2] {
        [0, 1].map(|thread: usize| self.of_thread[thread].load(Ordering::Relaxed))
    }

    fn commit(&self, thread: usize) {
        self.of_thread[thread].store(true, Ordering::Relaxed);
    }

    fn collect(&self) {
        let mut collected = self.collected.lock().unwrap();
        if collected.settled {
            let copied_in = self.copied_in.load(Ordering::Relaxed);
            assert!(copied_in, "a dead letter would show zeroes");
            collected.found |= self.seen()[0];
        }
    }
}

/// A gate whose sender remembers what its last push saw.
struct Watched {
    commits: Commits,
    gate: Gate<[bool; 2]>,
}

impl Watched {
    fn new() -> Watched {
        Watched {
            commits: Commits::default(),
            gate: Gate::new(Some([false; 2])),
        }
    }

    fn push(&self) {
        self.gate.pass(|pushed| {
            *pushed = self.commits.seen();
            true
        });
    }

    fn assert_all_pushed(&self) {
        let mut last = [false; 2];
        self.gate.pass(|pushed| {
            last = *pushed;
            true
        });
        assert_eq!(last, [true; 2], "a commit stayed behind");
    }
}

/// Two threads that commit and pass: what was pushed last was all of it.
pub(super) fn passed(preemptions: Option<usize>) {
    explore(preemptions, || {
        let shared = Arc::new(Watched::new());
        let threads = [0, 1].map(|thread: usize| {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                shared.commits.commit(thread);
                shared.push();
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        shared.assert_all_pushed();
    });
}

/// A thread that commits while another ends the session: one of the two finds it, also where a third is pushing.
pub(super) fn ended(preemptions: Option<usize>) {
    explore(preemptions, || {
        let shared = Arc::new((Commits::default(), Gate::new(None::<()>)));
        let ending = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                let (commits, gate) = &*shared;
                // As `PeerInner::end` does.
                commits.over.store(true, Ordering::Relaxed);
                commits.copied_in.store(true, Ordering::Relaxed);
                gate.settle();
                commits.collected.lock().unwrap().settled = true;
                commits.collect();
            }
        });
        let committing = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                let (commits, gate) = &*shared;
                // As `PeerInner::flush` does.
                commits.commit(0);
                gate.pass(|()| true);
                if commits.over.load(Ordering::Relaxed) {
                    commits.collect();
                }
            }
        });
        // As `PeerInner::turn` does.
        shared.1.pass(|()| true);
        ending.join().unwrap();
        committing.join().unwrap();
        let found = shared.0.collected.lock().unwrap().found;
        assert!(found, "neither has found what was committed");
    });
}

/// How many times the peer is in the list, and whether nobody looks at that any more.
#[derive(Default)]
struct List {
    places: usize,
    over: bool,
}

/// Two threads that commit and leave it to a third, which looks once and then for the last time: what was pushed last was all.
pub(super) fn left(preemptions: Option<usize>) {
    explore(preemptions, || {
        let shared = Arc::new((Watched::new(), Postponed::default(), Mutex::new(List::default())));
        let threads = [0, 1].map(|thread: usize| {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                let (watched, postponed, list) = &*shared;
                // As `PeerInner::flush_soon` and `DrivingTask::postpone` do.
                watched.commits.commit(thread);
                let left = postponed.leave(|| {
                    let mut list = list.lock().unwrap();
                    if !list.over {
                        list.places += 1;
                    }
                    !list.over
                });
                if !left {
                    watched.push();
                }
            })
        });
        let (watched, postponed, list) = &*shared;
        for over in [false, true] {
            let mut list = list.lock().unwrap();
            list.over = over;
            let places = std::mem::take(&mut list.places);
            drop(list);
            assert!(places <= 1, "in the list {places} times");
            for _ in 0..places {
                postponed.take_back();
                watched.push();
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        watched.assert_all_pushed();
    });
}

#[test]
fn nothing_that_was_committed_stays_behind() {
    passed(None);
}

#[test]
fn what_is_committed_as_the_session_ends_is_found() {
    ended(None);
}

#[test]
fn what_was_left_to_another_is_pushed() {
    left(Some(2));
}

//! A task that drives a node is woken: a wake-up that is lost is a deadlock, which loom reports.

use std::sync::Arc;

use super::explore;
use crate::standing::{Standing, TurnedAway};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A task that falls asleep whenever there is nothing to do, and what it may be called for.
#[derive(Default)]
struct Task {
    standing: Standing,
    /// What it is called for: seen in a pass.
    arrived: AtomicBool,
    /// What it is roused for.
    postponed: Mutex<bool>,
    /// The runtime's notice that it is to be polled, which stays until it is.
    notice: loom::sync::Mutex<bool>,
    noticed: loom::sync::Condvar,
}

impl Task {
    fn wake(&self) {
        *self.notice.lock().unwrap() = true;
        self.noticed.notify_one();
    }

    fn sleep(&self) {
        let mut notice = self.notice.lock().unwrap();
        while !std::mem::take(&mut *notice) {
            notice = self.noticed.wait(notice).unwrap();
        }
    }

    fn postponed(&self) -> bool {
        *self.postponed.lock().unwrap()
    }

    /// As the task in `on_tokio` does, until it has found both.
    fn run(&self) {
        let (mut arrived, mut postponed) = (false, false);
        while !(arrived && postponed) {
            self.standing.begin_pass();
            arrived |= self.arrived.load(Ordering::Relaxed);
            postponed |= self.postponed();
            while !(arrived && postponed) && self.standing.fall_asleep() && postponed == self.postponed() {
                while self.standing.is_asleep() {
                    self.sleep();
                }
                if self.standing.is_called() {
                    break;
                }
                postponed |= self.postponed();
            }
        }
    }
}

/// One calls, one leaves something in the list.
pub(super) fn woken(preemptions: Option<usize>) {
    explore(preemptions, || {
        let task = Arc::new(Task::default());
        let calling = loom::thread::spawn({
            let task = task.clone();
            move || {
                task.arrived.store(true, Ordering::Relaxed);
                if task.standing.call() {
                    task.wake();
                }
            }
        });
        let leaving = loom::thread::spawn({
            let task = task.clone();
            move || {
                *task.postponed.lock().unwrap() = true;
                if task.standing.rouse() {
                    task.wake();
                }
            }
        });
        let driving = loom::thread::spawn(move || task.run());
        for thread in [calling, leaving, driving] {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_task_that_sleeps_is_woken_by_a_call_and_by_what_is_left_to_it() {
    woken(Some(3));
}

/// A waker drives while the task wants to, and tells it when it has let go.
pub(super) fn turned_away(preemptions: Option<usize>) {
    explore(preemptions, || {
        let task = Arc::new(Task::default());
        let word = Arc::new(TurnedAway::default());
        let driven = Arc::new(AtomicBool::new(true));
        let letting_go = loom::thread::spawn({
            let (task, word, driven) = (task.clone(), word.clone(), driven.clone());
            move || {
                driven.store(false, Ordering::Relaxed);
                if word.take_word() && task.standing.call() {
                    task.wake();
                }
            }
        });
        let driving = loom::thread::spawn(move || {
            loop {
                task.standing.begin_pass();
                if !driven.load(Ordering::Relaxed) {
                    return;
                }
                word.leave_word();
                if driven.load(Ordering::Relaxed) && task.standing.fall_asleep() {
                    while task.standing.is_asleep() {
                        task.sleep();
                    }
                }
            }
        });
        for thread in [letting_go, driving] {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_task_that_was_turned_away_is_called_when_whoever_drove_has_let_go() {
    turned_away(None);
}

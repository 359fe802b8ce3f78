//! A task that drives a node is woken: a wake-up that is lost is a deadlock, which loom reports.

use std::sync::Arc;

use super::explore;
use crate::standing::Standing;
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

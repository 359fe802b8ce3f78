//! How a receiver that polls memory over RDMA comes to sleep, and is woken: the protocol of
//! `transport-rdma/src/fabric/verbs/notify.rs`, whose proof is at its top. That file itself is compiled in here; what a
//! device and the verbs link do around it is modelled: writes arrive in order, data without any sign, a completion after
//! the data of all writes before it, an event for a completion that comes after it was asked for.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use super::explore;
use crate::sync::atomic::{AtomicU64, Ordering};

#[allow(dead_code, unreachable_pub)]
#[path = "../../../transport-rdma/src/fabric/verbs/notify.rs"]
mod notify;

use notify::{Notify, ON};

/// What is left out of the protocol, to see that it is needed.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// The receiver sleeps without a bound although its wish is not confirmed.
    SleepsUnconfirmed,
    /// The sender reads the wish before it takes the lock of its send queue.
    ReadsTheWishOutsideTheLock,
    /// The receiver asks for an event last, and looks neither for completions nor at its ring after that. (Either look
    /// would do: a wake-up never comes without something to be seen.)
    LooksOnlyBeforeItAsks,
}

#[derive(Default)]
struct Completions {
    immediates: Vec<u32>,
    armed: bool,
    event: bool,
}

/// The receiver's end of a queue pair, and what the peer writes to.
#[derive(Default)]
struct Receiver {
    ring: AtomicU64,
    completions: Mutex<Completions>,
    event: Condvar,
}

/// The sender's end.
#[derive(Default)]
struct Sender {
    /// The wish that the receiver has written here.
    wish: AtomicU64,
    /// The wish that the last post kept to; the lock of the send queue.
    queue: Mutex<u32>,
}

struct Link {
    flaw: Flaw,
    receiver: Receiver,
    sender: Sender,
}

impl Link {
    /// Posts a write of `data`, if there is any, with a wake-up if the receiver wishes one: as `VerbsOutbound::post`.
    fn post(&self, data: Option<u64>, only_for_a_new_wish: bool) {
        let read = || self.sender.wish.load(Ordering::Relaxed) as u32;
        let early = read();
        let mut obeyed = self.sender.queue.lock().unwrap();
        let wish = match self.flaw {
            Flaw::ReadsTheWishOutsideTheLock => early,
            _ => read(),
        };
        if only_for_a_new_wish && wish == *obeyed {
            return;
        }
        *obeyed = wish;
        if let Some(data) = data {
            self.receiver.ring.store(data, Ordering::Relaxed);
        }
        if wish & ON != 0 {
            let mut completions = self.receiver.completions.lock().unwrap();
            completions.immediates.push(wish);
            if std::mem::take(&mut completions.armed) {
                completions.event = true;
                self.receiver.event.notify_one();
            }
        }
    }

    fn take_wakes(&self, notify: &mut Notify) -> usize {
        let taken = std::mem::take(&mut self.receiver.completions.lock().unwrap().immediates);
        taken.iter().for_each(|immediate| notify.woken(*immediate));
        taken.len()
    }

    fn ask_for_an_event(&self) {
        let mut completions = self.receiver.completions.lock().unwrap();
        completions.event = false;
        completions.armed = true;
    }

    /// Sleeps until there is data: as `VerbsInbound::arm` and `NodeInner::run`.
    fn receive(&self) -> u64 {
        let mut notify = Notify::default();
        loop {
            self.take_wakes(&mut notify);
            let data = self.receiver.ring.load(Ordering::Relaxed);
            if data != 0 {
                return data;
            }
            notify.slept();
            notify.want(true);
            self.sender
                .wish
                .store(u64::from(notify.wish()), Ordering::Relaxed);
            notify.announced();
            let late = self.flaw == Flaw::LooksOnlyBeforeItAsks;
            if !late {
                self.ask_for_an_event();
            }
            if self.take_wakes(&mut notify) > 0 {
                continue;
            }
            if late {
                self.ask_for_an_event();
            }
            let patience = notify.patience([Duration::from_millis(1); 2]);
            if !late && self.receiver.ring.load(Ordering::Relaxed) != 0 {
                continue;
            }
            if patience.is_some() && self.flaw != Flaw::SleepsUnconfirmed {
                loom::thread::yield_now();
                continue;
            }
            let mut completions = self.receiver.completions.lock().unwrap();
            while !completions.event {
                completions = self.receiver.event.wait(completions).unwrap();
            }
        }
    }
}

fn woken(flaw: Flaw) {
    explore(Some(3), move || {
        let link = Arc::new(Link {
            flaw,
            receiver: Receiver::default(),
            sender: Sender::default(),
        });
        let pushing = loom::thread::spawn({
            let link = link.clone();
            move || link.post(Some(7), false)
        });
        let polling = loom::thread::spawn({
            let link = link.clone();
            // A poll of the peer's, which confirms a wish that is new: `VerbsInbound::obey`.
            move || link.post(None, true)
        });
        let receiving = loom::thread::spawn(move || assert_eq!(link.receive(), 7));
        for thread in [pushing, polling, receiving] {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_receiver_that_sleeps_is_woken() {
    woken(Flaw::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_sleep_without_confirmation_may_never_end() {
    woken(Flaw::SleepsUnconfirmed);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wish_read_outside_the_lock_may_be_confirmed_and_then_forgotten() {
    woken(Flaw::ReadsTheWishOutsideTheLock);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_event_that_was_due_before_it_was_asked_for_never_comes() {
    woken(Flaw::LooksOnlyBeforeItAsks);
}

//! Those who wait for a condition are woken: a wake-up that is lost is a deadlock, which loom reports.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::{CAPACITY, explore, send, try_send};
use crate::frame::Integrity;
use crate::memory::RingMemory;
use crate::ring::SendRing;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::wait::WaitList;

struct Unpark(loom::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks until the condition holds, as a blocking operation does: looks, registers, looks again.
fn wait_until(list: &WaitList, mut holds: impl FnMut() -> bool) {
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    loop {
        if holds() {
            return;
        }
        list.register(&waker);
        if holds() {
            return;
        }
        loom::thread::park();
    }
}

/// Two who wait, one who wakes.
pub(super) fn woken(preemptions: Option<usize>) {
    explore(preemptions, || {
        let shared = Arc::new((WaitList::default(), AtomicBool::new(false)));
        let waker = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.store(true, Ordering::Relaxed);
                shared.0.wake_all();
            }
        });
        let waiting = [(); 2].map(|()| {
            let shared = shared.clone();
            loom::thread::spawn(move || wait_until(&shared.0, || shared.1.load(Ordering::Relaxed)))
        });
        for thread in waiting.into_iter().chain([waker]) {
            thread.join().unwrap();
        }
    });
}

/// One who waits for two things, of two who wake: the second must find it registered again.
pub(super) fn woken_again(preemptions: Option<usize>) {
    explore(preemptions, || {
        let shared = Arc::new((
            WaitList::default(),
            [AtomicBool::new(false), AtomicBool::new(false)],
        ));
        let wakers = [0, 1].map(|index| {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                shared.1[index].store(true, Ordering::Relaxed);
                shared.0.wake_all();
            })
        });
        let waiting = loom::thread::spawn(move || {
            wait_until(&shared.0, || {
                shared.1.iter().all(|done| done.load(Ordering::Relaxed))
            });
        });
        for thread in wakers.into_iter().chain([waiting]) {
            thread.join().unwrap();
        }
    });
}

/// A producer that sleeps until a full ring has room.
pub(super) fn room(preemptions: Option<usize>) {
    explore(preemptions, || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let ring = SendRing::new(memory, Integrity::None);
        for number in 0..4 {
            send(&ring, 0, number);
        }
        let end = ring.committed(0, u64::MAX);
        let shared = Arc::new((WaitList::default(), ring));
        let releasing = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.release(end).unwrap();
                shared.0.wake_all();
            }
        });
        let producer = loom::thread::spawn({
            let shared = shared.clone();
            move || wait_until(&shared.0, || try_send(&shared.1, 1, 0))
        });
        releasing.join().unwrap();
        producer.join().unwrap();
        assert!(shared.1.committed(end, u64::MAX) > end);
    });
}

#[test]
fn everybody_who_registered_is_woken() {
    woken(None);
}

#[test]
fn who_waits_on_is_woken_again() {
    woken_again(Some(4));
}

#[test]
fn a_producer_that_sleeps_for_room_is_woken_by_the_release() {
    room(None);
}

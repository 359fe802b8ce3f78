//! A reader of shared memory that sleeps is woken: a wake-up that is lost is a deadlock, which loom reports.

use std::sync::Arc;

use super::{CAPACITY, Expect, explore, send};
use crate::doze;
use crate::frame::Integrity;
use crate::memory::RingMemory;
use crate::ring::{Arrival, CELL, ReceiveRing, SendRing};

/// The socket of a link over shared memory: a byte on it stays until it is read.
#[derive(Default)]
struct Socket {
    bytes: loom::sync::Mutex<usize>,
    readable: loom::sync::Condvar,
}

impl Socket {
    fn wake(&self) {
        *self.bytes.lock().unwrap() += 1;
        self.readable.notify_one();
    }

    fn drain(&self) {
        *self.bytes.lock().unwrap() = 0;
    }

    fn sleep(&self) {
        let mut bytes = self.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.readable.wait(bytes).unwrap();
        }
    }
}

/// Two producers who commit and ring the bell; a reader who sleeps whenever the ring is empty.
pub(super) fn woken(producers: u8, preemptions: Option<usize>) {
    explore(preemptions, move || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let cells = RingMemory::anonymous(256).unwrap();
        let ring = Arc::new(SendRing::shared(memory.clone(), cells.slice(0, CELL)));
        let dozing = cells.slice(128, 64);
        let socket = Arc::new(Socket::default());
        let mut receive = ReceiveRing::new(memory, Integrity::None, Arrival::Published);
        let mut expect = Expect::new();
        let producers: Vec<_> = (0..producers)
            .map(|sender| {
                let (ring, dozing, socket) = (ring.clone(), dozing.clone(), socket.clone());
                loom::thread::spawn(move || {
                    send(&ring, sender, 0);
                    // As `Bell::ring` does.
                    if doze::must_wake(dozing.word(0)) {
                        socket.wake();
                    }
                })
            })
            .collect();
        let count = producers.len();
        let reader = loom::thread::spawn(move || {
            while usize::from(expect.taken()) < count {
                if let Some(frame) = receive.peek().unwrap() {
                    expect.take(&ring, frame.body);
                    let size = frame.header.size();
                    receive.consume(size);
                    continue;
                }
                // As `ShmInbound::arm` does.
                socket.drain();
                doze::announce(dozing.word(0));
                if receive.is_empty() {
                    socket.sleep();
                }
                doze::withdraw(dozing.word(0));
            }
        });
        for thread in producers.into_iter().chain([reader]) {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_reader_that_sleeps_is_woken_by_a_commit() {
    woken(1, None);
}

#[test]
fn a_reader_that_sleeps_is_woken_by_any_of_two_producers() {
    woken(2, Some(3));
}

//! One message at a time, one way, in a place of its own: all in one line always, or one behind the other through memory.
//!
//! A message starts with its number, which is stored last. Its place belongs to the writer until then, and to the reader from
//! then until the writer's next message there, which the reader itself asks for by answering in the other direction.

#![allow(unsafe_code)]

use std::ptr::copy_nonoverlapping;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex::{self, Flags, Timespec};

use crate::error::Error;
use crate::shared_memory::SharedMemory;
use crate::wait::{Gone, Idle, Next, Wait};

/// Keeps two directions out of each other's cache lines, and out of the ones that are prefetched beside them.
const ALIGNMENT: usize = 128;
/// The number that a message starts with.
const NUMBER: usize = size_of::<u32>();
/// A sleeper looks this often whether its peer still lives.
const SLEEP_AT_MOST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Where the messages of one direction stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    size: usize,
    stride: usize,
    places: usize,
}

impl Shape {
    /// In one place, on as few cache lines as so many bytes fill.
    pub(super) fn line(size: usize) -> Shape {
        Shape {
            size,
            stride: size.next_multiple_of(ALIGNMENT),
            places: 1,
        }
    }

    /// One behind the other through `memory` bytes, over and over, each in as many bytes as a frame of ours takes: what a ring
    /// costs that goes on through its memory.
    pub(super) fn frames(size: usize, memory: usize) -> Shape {
        let stride = transport::frame::size(size);
        Shape {
            size,
            stride,
            places: (memory / stride).max(1),
        }
    }

    /// Bytes that one direction takes.
    pub(super) fn len(&self) -> usize {
        (self.stride * self.places).next_multiple_of(ALIGNMENT)
    }
}

/// One direction.
pub(super) struct Line<'a> {
    memory: &'a SharedMemory,
    begin: usize,
    shape: Shape,
    wait: Wait,
    /// Where the next message stands.
    at: usize,
}

impl Line<'_> {
    /// The direction that begins at `begin`, a multiple of a cache line, behind message `number`.
    pub(super) fn new(
        memory: &SharedMemory,
        begin: usize,
        shape: Shape,
        wait: Wait,
        number: u32,
    ) -> Line<'_> {
        Line {
            memory,
            begin,
            shape,
            wait,
            at: begin + number as usize % shape.places * shape.stride,
        }
    }

    /// The number of the next message, and all that follows it.
    #[inline]
    fn next(&mut self) -> (&AtomicU32, *mut u8) {
        let next = self.at + self.shape.stride;
        let end = self.begin + self.shape.places * self.shape.stride;
        self.at = if next < end { next } else { self.begin };
        let rest = self.memory.at(self.at + NUMBER, self.shape.size - NUMBER);
        (self.memory.word(self.at), rest)
    }

    /// Writes message `number`, which takes the place of its first bytes. The one before must have been answered.
    #[inline]
    pub(super) fn put(&mut self, number: u32, message: &[u8]) {
        assert_eq!(message.len(), self.shape.size);
        let wait = self.wait;
        let (first, rest) = self.next();
        // SAFETY: `at` checked that so many bytes at `rest` are in the mapping, and private memory cannot overlap them. The
        // reader has answered the message before, so it reads nothing there until the store below.
        unsafe { copy_nonoverlapping(message[NUMBER..].as_ptr(), rest, message.len() - NUMBER) };
        first.store(number, Ordering::Release);
        if wait == Wait::Park {
            // Nobody asleep is no error.
            let _ = futex::wake(first, Flags::empty(), 1);
        }
    }

    /// Waits for message `number` and reads it.
    #[inline]
    pub(super) fn take(&mut self, number: u32, message: &mut [u8], gone: &Gone) -> Result<(), Error> {
        assert_eq!(message.len(), self.shape.size);
        let wait = self.wait;
        let (first, rest) = self.next();
        let mut idle = Idle::new(wait, gone);
        loop {
            let seen = first.load(Ordering::Acquire);
            if seen == number {
                break;
            }
            if idle.found_nothing()? == Next::Sleep {
                sleep(first, seen, wait);
            }
        }
        let (start, others) = message.split_at_mut(NUMBER);
        start.copy_from_slice(&number.to_le_bytes());
        // SAFETY: in the mapping as in `put`; the writer wrote them before the number that was just acquired, and writes
        // there no more until this message is answered.
        unsafe { copy_nonoverlapping(rest, others.as_mut_ptr(), others.len()) };
        Ok(())
    }
}

#[cold]
fn sleep(first: &AtomicU32, seen: u32, wait: Wait) {
    match wait {
        // Woken, timed out, or the number had changed already: in each case the caller looks again.
        Wait::Park => drop(futex::wait(first, Flags::empty(), seen, Some(&SLEEP_AT_MOST))),
        Wait::Adaptive | Wait::Spin => std::thread::yield_now(),
    }
}

//! One message at a time, one way: a sequence number and a payload behind it.
//!
//! The payload belongs to the writer until it stores the number of the message, and to the reader from then
//! until the writer's next message, which the reader itself asks for by answering on the other line.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::copy_nonoverlapping;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex::{self, Flags, Timespec};

use crate::error::Error;
use crate::shared_memory::SharedMemory;
use crate::wait::{Gone, Idle, Next, Wait};

/// Keeps two lines out of each other's cache lines, and out of the ones that are prefetched beside them.
const ALIGNMENT: usize = 128;
const PAYLOAD_AT: usize = 8;
/// A sleeper looks this often whether its peer still lives.
const SLEEP_AT_MOST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

pub(super) struct Line<'a> {
    sequence: &'a AtomicU32,
    payload: *mut u8,
    size: usize,
    wait: Wait,
    memory: PhantomData<&'a SharedMemory>,
}

impl Line<'_> {
    /// Bytes that a line for payloads of `size` takes.
    pub(super) fn len(size: usize) -> usize {
        (PAYLOAD_AT + size).next_multiple_of(ALIGNMENT)
    }

    pub(super) fn new(memory: &SharedMemory, offset: usize, size: usize, wait: Wait) -> Line<'_> {
        let payload = memory.at(offset + PAYLOAD_AT, size);
        Line {
            sequence: memory.word(offset),
            payload,
            size,
            wait,
            memory: PhantomData,
        }
    }

    /// Writes message number `sequence`. The one before must have been answered.
    #[inline]
    pub(super) fn put(&self, sequence: u32, message: &[u8]) {
        assert_eq!(message.len(), self.size);
        // SAFETY: `new` checked that `size` bytes at `payload` are in the mapping, and private memory cannot
        // overlap them. The reader has answered the message before, so it reads nothing until the store below.
        unsafe { copy_nonoverlapping(message.as_ptr(), self.payload, self.size) };
        self.sequence.store(sequence, Ordering::Release);
        if self.wait == Wait::Park {
            // Nobody asleep is no error.
            let _ = futex::wake(self.sequence, Flags::empty(), 1);
        }
    }

    /// Waits for message number `sequence` and reads it.
    #[inline]
    pub(super) fn take(&self, sequence: u32, message: &mut [u8], gone: &Gone) -> Result<(), Error> {
        assert_eq!(message.len(), self.size);
        let mut idle = Idle::new(self.wait, gone);
        loop {
            let seen = self.sequence.load(Ordering::Acquire);
            if seen == sequence {
                break;
            }
            if idle.found_nothing()? == Next::Sleep {
                self.sleep(seen);
            }
        }
        // SAFETY: in the mapping as in `put`; the writer wrote the payload before the number that was just
        // acquired, and writes no more until this message is answered.
        unsafe { copy_nonoverlapping(self.payload, message.as_mut_ptr(), self.size) };
        Ok(())
    }

    #[cold]
    fn sleep(&self, seen: u32) {
        match self.wait {
            // Woken, timed out, or the number had changed already: in each case the caller looks again.
            Wait::Park => drop(futex::wait(
                self.sequence,
                Flags::empty(),
                seen,
                Some(&SLEEP_AT_MOST),
            )),
            Wait::Adaptive | Wait::Spin => std::thread::yield_now(),
        }
    }
}

//! A bare ring for one producer and one consumer: a copy in, a copy out, a position for each.
//!
//! Positions count messages and never wrap. The slots in `consumed..produced` belong to the consumer, all
//! others to the producer. Each publishes its position for several messages at once, as often as keeps the other busy.

#![allow(unsafe_code)]

use std::ptr::copy_nonoverlapping;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::shared_memory::SharedMemory;
use crate::wait::{Gone, Idle, Next, Wait};

/// Bytes of slots: small enough to stay in a core's own cache.
const RING: usize = 512 << 10;
/// But room for at least so many messages.
const MIN_SLOTS: usize = 4;
/// The producer publishes this many bytes at a time.
const PUBLISH: usize = 4 << 10;
/// Keeps the positions out of each other's cache lines, and out of the ones that are prefetched beside them.
const ALIGNMENT: usize = 128;

/// Where a ring lies in the shared memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    offset: usize,
    slot: usize,
    slots: u64,
}

impl Layout {
    pub(super) fn new(offset: usize, size: usize) -> Layout {
        let slot = size.next_multiple_of(8).max(8);
        let slots = (RING / slot).max(MIN_SLOTS).next_power_of_two();
        Layout {
            offset: offset.next_multiple_of(ALIGNMENT),
            slot,
            slots: slots as u64,
        }
    }

    pub(super) fn end(&self) -> usize {
        self.data() + self.slot * self.slots as usize
    }

    fn produced(&self) -> usize {
        self.offset
    }

    fn consumed(&self) -> usize {
        self.offset + ALIGNMENT
    }

    fn data(&self) -> usize {
        self.offset + 2 * ALIGNMENT
    }
}

#[derive(Debug, Default)]
pub(super) struct Producer {
    produced: u64,
}

impl Producer {
    /// Puts `message` into the ring `count` times and publishes them all.
    pub(super) fn put(
        &mut self,
        memory: &SharedMemory,
        ring: &Layout,
        message: &[u8],
        count: u64,
        wait: Wait,
        gone: &Gone,
    ) -> Result<(), Error> {
        assert!(message.len() <= ring.slot);
        let data = memory.at(ring.data(), ring.slot * ring.slots as usize);
        let (published, consumed) = (memory.position(ring.produced()), memory.position(ring.consumed()));
        let batch = (PUBLISH / ring.slot).max(1) as u64;
        let end = self.produced + count;
        let mut idle = Idle::new(wait, gone);
        let mut seen = consumed.load(Ordering::Acquire);
        while self.produced < end {
            let free = seen + ring.slots - self.produced;
            if free == 0 {
                seen = consumed.load(Ordering::Acquire);
                if seen + ring.slots == self.produced && idle.found_nothing()? == Next::Sleep {
                    std::thread::yield_now();
                }
                continue;
            }
            idle.found();
            let until = self.produced + batch.min(free).min(end - self.produced);
            while self.produced < until {
                let slot = (self.produced & (ring.slots - 1)) as usize * ring.slot;
                // SAFETY: the slot is within `data`, and the message no longer than a slot; the slot is free,
                // for the consumer has published that it is done with it, and it reads it again only after the
                // store below.
                unsafe { copy_nonoverlapping(message.as_ptr(), data.add(slot), message.len()) };
                self.produced += 1;
            }
            published.store(self.produced, Ordering::Release);
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct Consumer {
    consumed: u64,
}

impl Consumer {
    /// Takes `count` messages out of the ring, one after the other into `message`.
    pub(super) fn take(
        &mut self,
        memory: &SharedMemory,
        ring: &Layout,
        message: &mut [u8],
        count: u64,
        wait: Wait,
        gone: &Gone,
    ) -> Result<(), Error> {
        assert!(message.len() <= ring.slot);
        let data = memory.at(ring.data(), ring.slot * ring.slots as usize);
        let (produced, published) = (memory.position(ring.produced()), memory.position(ring.consumed()));
        let batch = (ring.slots / 4).max(1);
        let end = self.consumed + count;
        let mut idle = Idle::new(wait, gone);
        while self.consumed < end {
            let ready = produced
                .load(Ordering::Acquire)
                .min(self.consumed + batch)
                .min(end);
            if ready == self.consumed {
                if idle.found_nothing()? == Next::Sleep {
                    std::thread::yield_now();
                }
                continue;
            }
            idle.found();
            while self.consumed < ready {
                let slot = (self.consumed & (ring.slots - 1)) as usize * ring.slot;
                // SAFETY: the slot is within `data`, and the message no longer than a slot; it was written
                // before the position that was just acquired, and is not written again before the store below.
                unsafe { copy_nonoverlapping(data.add(slot), message.as_mut_ptr(), message.len()) };
                std::hint::black_box(&*message);
                self.consumed += 1;
            }
            published.store(self.consumed, Ordering::Release);
        }
        Ok(())
    }
}

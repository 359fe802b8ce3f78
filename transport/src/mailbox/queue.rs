//! What waits in a mailbox: entries in the order in which they came, and beside them their bytes, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::fifo::Fifo;
use super::{Payload, Port};
use crate::assembly::Assembled;
use crate::clock::Stamp;
use crate::lane::FrameEnd;
use crate::latency::Timer;
use crate::trace::TraceContext;

/// Marks a message of this node itself.
pub(super) const LOCAL: u32 = u32::MAX;

/// What stands of a message beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) len: u32,
    pub(super) port: u32,
    /// The message is not among the bytes but the next of those that lie apart.
    pub(super) apart: bool,
    /// Its trace context is the next of those that lie apart.
    pub(super) traced: bool,
    /// When it came in.
    pub(super) at: Stamp,
    /// It is the one that is timed.
    pub(super) timed: bool,
    pub(super) correlation: Option<u64>,
    /// Where its frame ended.
    pub(super) end: FrameEnd,
}

impl Entry {
    /// How many of the batch's bytes are this message's.
    pub(super) fn bytes(&self) -> usize {
        if self.apart { 0 } else { self.len as usize }
    }
}

/// Messages in the order in which they came.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Fifo<u8>,
    /// Messages that were put together from chunks: handed on as they are.
    pub(super) apart: VecDeque<Assembled>,
    /// Of the messages that have one.
    pub(super) traces: VecDeque<TraceContext>,
    pub(super) entries: Fifo<Entry>,
}

impl Batch {
    /// Once all has been taken; what lay apart has been handed on by then.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Adds a message behind the others.
    pub(super) fn push(&mut self, entry: Entry, trace: Option<&TraceContext>, payload: Payload<'_>) {
        self.entries.push(entry);
        if let Some(trace) = trace {
            self.traces.push_back(*trace);
        }
        match payload {
            Payload::Lent(bytes) => self.bytes.extend(bytes),
            Payload::Whole(bytes) => self.apart.push_back(bytes),
        }
    }

    /// Drops the oldest message, and returns what stands of it beside its bytes.
    pub(super) fn drop_oldest(&mut self) -> Option<Entry> {
        let oldest = self.entries.pop()?;
        self.bytes.skip(oldest.bytes());
        if oldest.apart {
            self.apart.pop_front();
        }
        if oldest.traced {
            self.traces.pop_front();
        }
        Some(oldest)
    }

    /// Moves the oldest message behind those of another batch.
    pub(super) fn move_oldest(&mut self, to: &mut Batch) {
        if let Some(oldest) = self.entries.pop() {
            to.bytes.extend(&self.bytes.as_slice()[..oldest.bytes()]);
            self.bytes.skip(oldest.bytes());
            if oldest.apart {
                to.apart.extend(self.apart.pop_front());
            }
            if oldest.traced {
                to.traces.extend(self.traces.pop_front());
            }
            to.entries.push(oldest);
        }
    }
}

/// What the sending side and the receiving end of a mailbox share under its lock.
#[derive(Default)]
pub(super) struct Queue {
    /// Boxed, so that the receiver takes all of it by a swap of two pointers.
    pub(super) batch: Box<Batch>,
    pub(super) ports: Vec<Arc<Port>>,
    /// The receiver does not know them as they are now.
    pub(super) ports_changed: bool,
    pub(super) timer: Timer,
    /// Places that permits of this node keep free.
    pub(super) kept: usize,
    pub(super) receiver: Option<Waker>,
    pub(super) closed: bool,
}

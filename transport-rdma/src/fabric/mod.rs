//! What differs between the devices that a link runs on: one-sided writes, the cells that acknowledgements stand in,
//! and how a sleeping receiver is woken.
//!
//! The two halves of a fabric are used by one thread each, at the same time. Neither ever blocks, spins or sleeps.

use std::os::fd::BorrowedFd;

use transport::lane::Lane;
use transport::link::LinkError;
use transport::memory::RingMemory;
use transport::ring::{Position, ReceiveRing};

#[cfg(feature = "verbs")]
mod cell;
pub(crate) mod shm;
#[cfg(feature = "verbs")]
pub(crate) mod verbs;

/// One thing for the device to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Make `len` bytes of the lane's send ring, from `offset` on, appear at the same offset of the peer's ring.
    /// They do not wrap.
    Write {
        /// Whose ring.
        lane: Lane,
        /// Where in the ring, in bytes.
        offset: usize,
        /// How many bytes.
        len: usize,
        /// The position up to which the lane has been pushed when this is taken.
        end: Position,
        /// The end of what appears at the peer stands in other memory.
        lent: Option<Lent>,
        /// A peer that sleeps may sleep on: a write that wakes it follows, whatever happens.
        quiet: bool,
    },
    /// Tell the peer up to where its ring of this lane has been consumed.
    Acknowledge {
        /// Whose ring.
        lane: Lane,
        /// The position.
        position: Position,
    },
}

/// Where the rest of a write comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    /// Bytes that come out of the ring, before the rest.
    pub(crate) head: usize,
    /// Which memory has the rest: a number of [`Outbound::lend`].
    pub(crate) memory: usize,
    /// Where in that memory, in bytes.
    pub(crate) offset: usize,
}

/// The half that sends.
pub(crate) trait Outbound: Send {
    /// Whether bytes have to be carried at all: false where both ends map the same ring.
    const CARRIES: bool;

    /// Whether it writes from other memory than the rings as well.
    const GATHERS: bool;

    /// Makes memory known to the device, so that requests of the next post may name it; `None` where the device does not take
    /// it.
    fn lend(&mut self, _memory: &RingMemory) -> Option<usize> {
        None
    }

    /// Takes the first requests of the list, in order, and says how many: fewer than all when the device is full.
    fn post(&mut self, requests: &[Request]) -> Result<usize, LinkError>;
}

/// The half that receives.
pub(crate) trait Inbound: Send {
    /// Whether some lanes are noticed: false where bytes show themselves.
    const NOTICES: bool;

    /// How far the peer says it has consumed a lane's send ring, or `known` where it says nothing else. Reads memory
    /// alone. Not to be believed.
    fn credit(&self, lane: Lane, known: Position) -> Position;

    /// How far a lane that is noticed has arrived, where the device tells and `ring` does not know yet; otherwise what the
    /// ring knows. Not to be believed.
    fn arrived(&mut self, _lane: Lane, ring: &ReceiveRing) -> Result<Position, LinkError> {
        Ok(ring.arrived())
    }

    /// Called by every poll: memory alone, except for what looks at the device and at the peer's life now and then.
    fn tend(&mut self) -> Result<(), LinkError>;

    /// Makes it so that what arrives from now on makes a descriptor readable, then asks `quiet` whether nothing has
    /// arrived before. True when asleep.
    fn arm(&mut self, quiet: &dyn Fn(&Self) -> bool) -> Result<bool, LinkError>
    where
        Self: Sized;

    /// Each change of the descriptors is told apart, and one has been told since the last poll: `closed` when the peer had closed
    /// its end by then.
    fn told(&mut self, _closed: bool) {}

    /// What becomes readable.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

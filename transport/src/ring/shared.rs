//! A ring that both ends map: nothing carries it, and the receiver writes nothing into it.
//!
//! The peer stores in a *cell* how far it has consumed: in the first word what it acknowledges, which this side watches; in the
//! word a cache line further every single frame, which this side reads only when the session is over. So a line of the ring
//! travels to the receiver, to be read, and back, to be zeroed and written again; never in between.
//!
//! This side zeroes what was consumed, a piece ahead of what it claims. The word behind the last claim is always zero:
//! there the receiver looks next, and what stood there a lap ago must not look like a frame. Hence one alignment of the ring
//! stays free.

#![allow(unsafe_code)]

use super::Position;
use super::send::{CLOSED, SendRing, may_end_a_frame, zero};
use crate::frame::{self, HEADER, Header, Integrity, Kind};
use crate::memory::RingMemory;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;

/// Where in a cell the receiver stores what it acknowledges: now and then, because the sender watches it.
pub const ACKNOWLEDGED: usize = 0;
/// Where in a cell the receiver stores the end of each frame that it consumes: on another cache line.
pub const CONSUMED: usize = 64;
/// Bytes of a cell, at least.
pub const CELL: usize = CONSUMED + 8;

/// Bytes zeroed at once, where as many were consumed: they stay in the nearest cache until they are written.
const AHEAD: u64 = if cfg!(loom) { 64 } else { 8 << 10 };

/// What a ring has that both ends map.
pub(super) struct Shared {
    cell: RingMemory,
    /// Held by who zeroes.
    zeroing: Mutex<()>,
}

impl SendRing {
    /// A ring that both ends map: the peer stores in `cell`, of [`CELL`] bytes at least, how far it has consumed:
    /// [`ACKNOWLEDGED`], [`CONSUMED`].
    ///
    /// # Panics
    /// As [`SendRing::new`].
    pub fn shared(memory: RingMemory, cell: RingMemory) -> SendRing {
        let ring = SendRing::new(memory, Integrity::None);
        SendRing {
            usable: ring.capacity - frame::ALIGNMENT as u64,
            shared: Some(Shared {
                cell,
                zeroing: Mutex::new(()),
            }),
            ..ring
        }
    }

    /// Zeroes a piece ahead where little is left, in a ring that both ends map. Called behind a send, when nobody waits for it; a
    /// claim that finds too little does the same.
    #[inline]
    pub(crate) fn zero_ahead(&self) {
        if let Some(shared) = &self.shared {
            let tail = self.claimed.load(Ordering::Relaxed) & !CLOSED;
            let released = self.released.load(Ordering::Relaxed);
            if self.free_below(released, tail) < AHEAD / 2 && self.acknowledged(shared) > released {
                self.make_room(shared, tail, 0);
            }
        }
    }

    /// Zeroes what the peer has acknowledged and no claim has taken yet, a piece of it, or as much as `needed` bytes above
    /// `tail` take. Returns the bytes free above `tail`.
    #[cold]
    pub(super) fn make_room(&self, shared: &Shared, tail: Position, needed: u64) -> u64 {
        // Whoever finds another at it waits, for a microsecond: to say that there is no room would be wrong.
        let _zeroing = shared.zeroing.lock();
        let released = self.released.load(Ordering::Relaxed);
        let wanted = (tail + needed).saturating_sub(self.usable);
        let to = self
            .acknowledged(shared)
            .min(wanted.max(released + AHEAD))
            .max(released);
        zero(&self.memory, released, to);
        // Release: a producer that sees the new position sees the zeroes below it.
        self.released.store(to, Ordering::Release);
        self.free_below(to, tail)
    }

    /// What the peer says in its cell. A position that it can't have consumed grants nothing.
    pub(super) fn acknowledged(&self, shared: &Shared) -> Position {
        self.told(shared, ACKNOWLEDGED)
    }

    fn told(&self, shared: &Shared, place: usize) -> Position {
        // Acquire: what the peer has read below it, it has read before this side zeroes it.
        let position = shared.cell.word(place).load(Ordering::Acquire);
        match position <= self.claimed() && may_end_a_frame(position) {
            true => position,
            false => 0,
        }
    }

    /// Shows every committed frame from `from` on that the peer has not acknowledged, and of a ring that both ends map, not
    /// consumed; padding left out; for a session that is over. Returns where to go on: the end, or the first frame that is
    /// not committed yet.
    pub fn unacknowledged(&self, from: Position, mut show: impl FnMut(Position, Header, &[u8])) -> Position {
        let claimed = self.claimed();
        let consumed = self
            .shared
            .as_ref()
            .map_or(0, |shared| self.told(shared, CONSUMED));
        let mut at = from.max(self.released()).max(consumed);
        while at < claimed {
            let first = self.word(at).load(Ordering::Acquire);
            if first == 0 {
                return at;
            }
            let to_end = self.capacity as usize - self.offset(at) - HEADER;
            // Only a peer that shares the memory can have made the header wrong: then what follows is unknowable.
            let Ok(header) = Header::decode(first, at, to_end as u32) else {
                return claimed;
            };
            if header.kind != Kind::Padding {
                show(at, header, self.bytes(at + HEADER as u64, header.length as usize));
            }
            at += header.size() as u64;
        }
        at
    }
}

//! The sending half: what is claimed and committed, what a link pushes, and what is released when the peer has consumed.
//!
//! Any number of threads claim at once; one thread at a time pushes and one releases. Claims are ordered by one
//! compare-and-swap; commits may come in any order, and the pusher stops at the first frame not yet committed.

#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;

use super::lent::Lent;
use super::shared::Shared;
use super::{CACHE_LINE, MIN_CAPACITY, Position, max_frame};
use crate::checksum::Checksum;
use crate::frame::{self, HEADER, Integrity, field};
use crate::memory::RingMemory;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The peer claims to have consumed what it can't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "peer acknowledged position {acknowledged}, which is no end of a frame within the {offered} bytes that were ever sent"
)]
pub struct CreditError {
    /// The position that the peer sent.
    pub acknowledged: Position,
    /// The position up to which frames were given to a link.
    pub offered: Position,
}

/// Set in the claimed position once the ring is closed. Positions never get there.
pub(super) const CLOSED: u64 = 1 << 63;

/// Committed frames that a link carries in one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the last frame ends.
    pub end: Position,
    /// Where its content ends: from here to `end` all bytes are zero.
    pub content_end: Position,
}

/// The sender's ring of one lane.
pub struct SendRing {
    pub(super) memory: RingMemory,
    pub(super) capacity: u64,
    /// Bytes of it that may be claimed and not released.
    pub(super) usable: u64,
    pub(super) integrity: Integrity,
    pub(super) lent: Lent,
    /// Where the peer maps the same memory.
    pub(super) shared: Option<Shared>,
    pub(super) claimed: CachePadded<AtomicU64>,
    /// Up to where the peer has consumed, and the bytes are zero again.
    pub(super) released: CachePadded<AtomicU64>,
    /// What [`SendRing::committed`] has shown a link: nothing beyond it can have been consumed.
    pub(super) offered: AtomicU64,
}

impl SendRing {
    /// A ring whose credit comes through [`SendRing::release`].
    ///
    /// `memory` is zeroed and its length is the capacity, a power of two of at least 4 KiB.
    ///
    /// # Panics
    /// When the length is no such power of two.
    pub fn new(memory: RingMemory, integrity: Integrity) -> SendRing {
        let capacity = memory.len() as u64;
        assert!(
            capacity.is_power_of_two() && capacity >= MIN_CAPACITY,
            "ring capacity {capacity} is not a power of two >= {MIN_CAPACITY}"
        );
        SendRing {
            memory,
            capacity,
            usable: capacity,
            integrity,
            lent: Lent::default(),
            shared: None,
            claimed: CachePadded::new(AtomicU64::new(0)),
            released: CachePadded::new(AtomicU64::new(0)),
            offered: AtomicU64::new(0),
        }
    }

    /// Capacity in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The longest extension and payload together that a frame of this ring holds, in bytes.
    pub fn max_body(&self) -> usize {
        max_frame(self.capacity as usize) - HEADER
    }

    /// The memory behind the ring, for registration with a device.
    pub fn memory(&self) -> &RingMemory {
        &self.memory
    }

    /// The position up to which frames have been claimed.
    pub fn claimed(&self) -> Position {
        self.claimed.load(Ordering::Acquire) & !CLOSED
    }

    /// Refuses every later claim. Returns the position up to which frames were claimed; those not yet committed
    /// still will be.
    pub fn close(&self) -> Position {
        self.claimed.fetch_or(CLOSED, Ordering::Relaxed) & !CLOSED
    }

    /// The position up to which the peer says that it has consumed.
    pub fn released(&self) -> Position {
        let released = self.released.load(Ordering::Acquire);
        match &self.shared {
            None => released,
            Some(shared) => released.max(self.acknowledged(shared)),
        }
    }

    /// Bytes free now.
    pub(crate) fn room(&self) -> u64 {
        self.free_below(self.released(), self.claimed())
    }

    #[inline]
    pub(super) fn offset(&self, position: Position) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    #[inline]
    pub(super) fn word(&self, position: Position) -> &AtomicU64 {
        self.memory.word(self.offset(position))
    }

    #[inline(always)]
    pub(super) fn publish(&self, position: Position, first: u64, body_len: usize) {
        if let Integrity::Checked(checksum) = &self.integrity {
            self.write_checksum(checksum, position, first, body_len);
        }
        // Release: whoever sees this word non-zero sees the whole frame.
        self.word(position).store(first, Ordering::Release);
    }

    /// Never inlined, while claim and commit always are: left to the compiler, the path of every send grows and shrinks by a
    /// tenth with code that has nothing to do with it.
    #[inline(never)]
    pub(super) fn write_checksum(
        &self,
        checksum: &Checksum,
        position: Position,
        first: u64,
        body_len: usize,
    ) {
        let body = self.bytes(position + HEADER as u64, body_len);
        let checksum = checksum.of(position, first, body);
        let field = self.offset(position) + field::CHECKSUM.start;
        // SAFETY: inside the ring; these bytes belong to the claim that this thread publishes.
        unsafe { self.memory.bytes_mut(field, field::CHECKSUM.len()) }
            .copy_from_slice(&checksum.to_le_bytes());
    }

    /// The end of the committed frames that start at `from`, going no further than `limit` bytes unless the first
    /// frame alone is longer.
    pub fn committed(&self, from: Position, limit: u64) -> Position {
        self.walk(from, self.claimed(), limit).end
    }

    /// Has the processor fetch the memory that is claimed next, where this side alone has it: meanwhile, and not then. Called
    /// behind a push, when nobody waits for it.
    pub fn fetch_ahead(&self) {
        let next = self.offset(self.claimed());
        self.memory.prefetch(next);
        self.memory.prefetch(next + CACHE_LINE);
    }

    /// Whether a frame stands at `position`, the end of a piece, that is committed and not part of it: a push of the lane has more
    /// to carry.
    pub fn goes_on(&self, position: Position) -> bool {
        position < self.claimed() && self.word(position).load(Ordering::Relaxed) != 0
    }

    /// As [`SendRing::committed`], for a link that writes into a ring of zeroes: stops at the ring's end, and says what
    /// of the last frame is more than zeroes.
    pub fn committed_piece(&self, from: Position, limit: u64) -> Piece {
        let lap_end = (from | (self.capacity - 1)) + 1;
        self.walk(from, self.claimed().min(lap_end), limit)
    }

    #[inline]
    fn walk(&self, from: Position, claimed: Position, limit: u64) -> Piece {
        let (mut end, mut content_end) = (from, from);
        while end < claimed {
            let first = self.word(end).load(Ordering::Acquire);
            if first == 0 {
                break;
            }
            let length = frame::length(first);
            let next = end + frame::size(length) as u64;
            // A walk that starts inside a frame, where a peer lied about what it consumed, ends here.
            if next > claimed || next - from > limit && end > from {
                break;
            }
            // The body of padding is zero.
            let body = if frame::is_padding(first) { 0 } else { length };
            content_end = end + (HEADER + body) as u64;
            end = next;
        }
        // One thread at a time walks: nobody else stores.
        if end > self.offered.load(Ordering::Relaxed) {
            self.offered.store(end, Ordering::Release);
        }
        Piece { end, content_end }
    }

    /// Whether a frame that was given to a link starts or ends at `position`: where a link may resume.
    pub fn is_boundary(&self, position: Position) -> bool {
        let offered = self.offered.load(Ordering::Acquire);
        let mut at = self.released();
        while at < position && at < offered {
            at += frame::size(frame::length(self.word(at).load(Ordering::Acquire))) as u64;
        }
        at == position
    }

    /// The bytes of committed frames from `from` to `to`, in one or two pieces (two where the ring wraps).
    ///
    /// # Panics
    /// When the range is longer than the ring.
    pub fn span(&self, from: Position, to: Position) -> [&[u8]; 2] {
        let len = (to - from) as usize;
        assert!(len as u64 <= self.capacity);
        let first = len.min((self.capacity as usize) - self.offset(from));
        [
            self.bytes(from, first),
            self.bytes(from + first as u64, len - first),
        ]
    }

    /// Bytes that do not wrap and that no producer writes: committed, or owned by the caller's claim.
    #[inline]
    pub(super) fn bytes(&self, from: Position, len: usize) -> &[u8] {
        let offset = self.offset(from);
        assert!(offset + len <= self.capacity as usize);
        // SAFETY: inside the memory, as just checked. Nobody writes there: the bytes lie between released and
        // claimed and belong to committed frames (or to the claim that is being published by this thread), which
        // only `release` touches, and only below what the peer consumed. Where the memory is shared, the peer's
        // process may break this; then it tears its own messages, never bounds.
        unsafe { self.memory.bytes(offset, len) }
    }

    /// Takes the peer's word that it has consumed everything below `position`, and frees those bytes. Where both map the
    /// ring, they are free already, and zeroed by who claims them.
    ///
    /// One thread at a time. Positions that go back are ignored.
    ///
    /// # Errors
    /// [`CreditError`] when the position lies beyond everything that was given to a link, or no frame can end there.
    pub fn release(&self, position: Position) -> Result<(), CreditError> {
        let shared = self.shared.is_some();
        let offered = match shared {
            true => self.claimed(),
            false => self.offered.load(Ordering::Acquire),
        };
        if position > offered || !may_end_a_frame(position) {
            return Err(CreditError {
                acknowledged: position,
                offered,
            });
        }
        let released = self.released.load(Ordering::Relaxed);
        if shared || position <= released {
            return Ok(());
        }
        self.clear(released, position);
        // Release: a producer that sees the new position sees the zeroes below it.
        self.released.store(position, Ordering::Release);
        Ok(())
    }
}

/// Whether a frame can end at the position. What a peer says is held against this, since frames are walked from there.
#[inline]
pub(super) fn may_end_a_frame(position: Position) -> bool {
    position.is_multiple_of(frame::ALIGNMENT as u64)
}

/// Zeroes ring bytes from `from` to `to`. They must belong to the caller: consumed, and not yet free to claim.
#[inline]
pub(super) fn zero(memory: &RingMemory, from: Position, to: Position) {
    let capacity = memory.len();
    let len = (to - from) as usize;
    assert!(len <= capacity);
    let offset = (from & (capacity as u64 - 1)) as usize;
    let first = len.min(capacity - offset);
    // SAFETY: both pieces lie inside the memory, and the caller owns them.
    unsafe {
        memory.zero(offset, first);
        memory.zero(0, len - first);
    }
}

impl std::fmt::Debug for SendRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendRing")
            .field("capacity", &self.capacity)
            .field("claimed", &self.claimed())
            .field("released", &self.released.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

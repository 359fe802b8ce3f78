//! The sending half: claim, write in place, commit; release when the peer has consumed.
//!
//! Any number of threads claim at once; one thread at a time pushes and one releases. Claims are ordered by one
//! compare-and-swap; commits may come in any order, and the pusher stops at the first frame not yet committed.

#![allow(unsafe_code)]

use crossbeam_utils::CachePadded;

use super::lent::Lent;
use super::{MIN_CAPACITY, Position, max_frame};
use crate::checksum::Checksum;
use crate::frame::{self, HEADER, Header, Integrity, Kind, field};
use crate::memory::RingMemory;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Why a claim was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The peer has not consumed enough yet: try again when credit has come.
    #[error("send ring full: {free} bytes free, {needed} needed")]
    Full {
        /// Bytes free now.
        free: u64,
        /// Bytes that the frame and the padding before it take.
        needed: u64,
    },
    /// The session has ended.
    #[error("send ring closed: the session has ended")]
    Closed,
    /// The frame never fits.
    #[error("frame of {len} bytes exceeds the ring's limit of {max}")]
    TooLarge {
        /// Bytes asked for.
        len: usize,
        /// Most that fit a frame of this ring.
        max: usize,
    },
}

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
const CLOSED: u64 = 1 << 63;

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
    capacity: u64,
    pub(super) integrity: Integrity,
    pub(super) lent: Lent,
    /// Where the peer itself publishes its consumed position, having zeroed what it consumed: memory shared by both.
    shared: Option<RingMemory>,
    claimed: CachePadded<AtomicU64>,
    released: CachePadded<AtomicU64>,
    /// What [`SendRing::committed`] has shown a link: nothing beyond it can have been consumed.
    offered: AtomicU64,
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
            integrity,
            lent: Lent::default(),
            shared: None,
            claimed: CachePadded::new(AtomicU64::new(0)),
            released: CachePadded::new(AtomicU64::new(0)),
            offered: AtomicU64::new(0),
        }
    }

    /// A ring that both ends map: the peer stores its consumed position in the first word of `cell`, after it has
    /// zeroed the bytes below it.
    ///
    /// # Panics
    /// As [`SendRing::new`].
    pub fn shared(memory: RingMemory, cell: RingMemory) -> SendRing {
        SendRing {
            shared: Some(cell),
            ..SendRing::new(memory, Integrity::None)
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

    /// The position up to which the peer has consumed and the bytes are free again.
    pub fn released(&self) -> Position {
        self.refresh_released();
        self.released.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn offset(&self, position: Position) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    #[inline]
    fn word(&self, position: Position) -> &AtomicU64 {
        self.memory.word(self.offset(position))
    }

    /// Takes a slot for a frame with `len` bytes of extension and payload.
    ///
    /// # Errors
    /// [`ClaimError::Full`] when the peer must consume first, [`ClaimError::TooLarge`] when it never fits.
    #[inline(always)]
    pub fn claim(&self, len: usize) -> Result<Claim<'_>, ClaimError> {
        let max = self.max_body();
        if len > max {
            return Err(ClaimError::TooLarge { len, max });
        }
        let frame = frame::size(len) as u64;
        loop {
            let tail = self.claimed.load(Ordering::Relaxed);
            if tail & CLOSED != 0 {
                return Err(ClaimError::Closed);
            }
            let to_end = self.capacity - (tail & (self.capacity - 1));
            let padding = if frame <= to_end { 0 } else { to_end };
            let needed = frame + padding;
            let free = self.free(tail, needed);
            if needed > free {
                return Err(ClaimError::Full { free, needed });
            }
            // The frame is published by its first word, not by this position. Release: who pushes up to here sees that the
            // last lap's bytes are zero, as this thread did.
            if self
                .claimed
                .compare_exchange_weak(tail, tail + needed, Ordering::Release, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            if padding > 0 {
                self.publish(
                    tail,
                    Header {
                        length: (padding as usize - HEADER) as u32,
                        kind: Kind::Padding,
                        flags: 0,
                        extension: 0,
                        mailbox: 0,
                    }
                    .first_word(),
                    0,
                );
            }
            return Ok(Claim {
                ring: self,
                position: tail + padding,
                len,
                open: true,
            });
        }
    }

    /// Bytes free above `tail`; looks at the shared cell only when what is known does not suffice.
    #[inline]
    fn free(&self, tail: Position, needed: u64) -> u64 {
        let free = self
            .capacity
            .saturating_sub(tail.saturating_sub(self.released.load(Ordering::Acquire)));
        if free >= needed || self.shared.is_none() {
            return free;
        }
        self.refresh_released();
        self.capacity
            .saturating_sub(tail.saturating_sub(self.released.load(Ordering::Acquire)))
    }

    /// Takes over what the peer has published in the shared cell. A position that it can't have consumed, or one
    /// that goes back, is ignored: it grants nothing.
    fn refresh_released(&self) {
        if let Some(cell) = &self.shared {
            let published = cell.word(0).load(Ordering::Acquire);
            if published <= self.claimed() && may_end_a_frame(published) {
                self.released.fetch_max(published, Ordering::Release);
            }
        }
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
    fn write_checksum(&self, checksum: &Checksum, position: Position, first: u64, body_len: usize) {
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
        self.offered.fetch_max(end, Ordering::AcqRel);
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
    fn bytes(&self, from: Position, len: usize) -> &[u8] {
        let offset = self.offset(from);
        assert!(offset + len <= self.capacity as usize);
        // SAFETY: inside the memory, as just checked. Nobody writes there: the bytes lie between released and
        // claimed and belong to committed frames (or to the claim that is being published by this thread), which
        // only `release` touches, and only below what the peer consumed. Where the memory is shared, the peer's
        // process may break this; then it tears its own messages, never bounds.
        unsafe { self.memory.bytes(offset, len) }
    }

    /// Takes the peer's word that it has consumed everything below `position`, and frees those bytes.
    ///
    /// One thread at a time. Positions that go back are ignored.
    ///
    /// # Errors
    /// [`CreditError`] when the position lies beyond everything that was given to a link, or no frame can end there.
    pub fn release(&self, position: Position) -> Result<(), CreditError> {
        let offered = if self.shared.is_some() {
            self.claimed()
        } else {
            self.offered.load(Ordering::Acquire)
        };
        if position > offered || !may_end_a_frame(position) {
            return Err(CreditError {
                acknowledged: position,
                offered,
            });
        }
        let released = self.released.load(Ordering::Relaxed);
        if position <= released {
            return Ok(());
        }
        if self.shared.is_some() {
            // The peer zeroed these bytes before it published the position, and producers may use them already.
            self.released.fetch_max(position, Ordering::AcqRel);
            return Ok(());
        }
        self.clear(released, position);
        // Release: a producer that sees the new position sees the zeroes below it.
        self.released.store(position, Ordering::Release);
        Ok(())
    }
}

impl SendRing {
    /// Shows every committed frame from `from` on that the peer has not acknowledged, padding left out; for a session
    /// that is over. Returns where to go on: the end, or the first frame that is not committed yet.
    ///
    /// In a ring that both ends map, frames that the peer consumed without acknowledging are zero, or say padding while it
    /// zeroes them, and are left out.
    pub fn unacknowledged(&self, from: Position, mut show: impl FnMut(Position, Header, &[u8])) -> Position {
        let claimed = self.claimed();
        let mut at = from.max(self.released());
        while at < claimed {
            let first = self.word(at).load(Ordering::Acquire);
            if first == 0 {
                if self.shared.is_none() {
                    return at;
                }
                at += frame::ALIGNMENT as u64;
                continue;
            }
            let to_end = self.capacity as usize - self.offset(at) - HEADER;
            // Only a peer that shares the memory can have made the header wrong: then what follows is unknowable.
            let Ok(header) = Header::decode(first, at, to_end as u32) else {
                return claimed;
            };
            if header.kind != Kind::Padding {
                let body = self.bytes(at + HEADER as u64, header.length as usize);
                if self.shared.is_none() {
                    show(at, header, body);
                } else {
                    let copy = body.to_vec();
                    // Between the bytes before and the word after; pairs with the fence of `ReceiveRing::give_up`.
                    fence(Ordering::Acquire);
                    if self.word(at).load(Ordering::Relaxed) == first {
                        show(at, header, &copy);
                    }
                }
            }
            at += header.size() as u64;
        }
        at
    }
}

/// Whether a frame can end at the position. What a peer says is held against this, since frames are walked from there.
#[inline]
fn may_end_a_frame(position: Position) -> bool {
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

/// A slot taken in a send ring. Write the body, then [`Claim::commit`]. Dropped without it, the slot travels as
/// padding, so that nobody behind it waits.
#[must_use = "an uncommitted claim holds up every later frame of the lane"]
pub struct Claim<'r> {
    pub(super) ring: &'r SendRing,
    position: Position,
    pub(super) len: usize,
    pub(super) open: bool,
}

impl Claim<'_> {
    /// Where the frame will stand.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The position behind the frame.
    pub fn end(&self) -> Position {
        self.position + frame::size(self.len) as u64
    }

    /// The bytes of extension and payload, to be written in place. Zero at first.
    #[inline]
    pub fn body(&mut self) -> &mut [u8] {
        let offset = self.ring.offset(self.position + HEADER as u64);
        // SAFETY: the claim's compare-and-swap gave these bytes to this claim alone; they are inside the ring and
        // do not wrap because `claim` pads; `&mut self` keeps the borrow unique.
        unsafe { self.ring.memory.bytes_mut(offset, self.len) }
    }

    /// Publishes the frame.
    #[inline(always)]
    pub fn commit(mut self, kind: Kind, flags: u8, extension: u8, mailbox: u16) {
        self.open = false;
        let header = Header {
            length: self.len as u32,
            kind,
            flags,
            extension,
            mailbox,
        };
        self.ring.publish(self.position, header.first_word(), self.len);
    }
}

impl Claim<'_> {
    #[cold]
    fn abandon(&mut self) {
        self.body().fill(0);
        let header = Header {
            length: self.len as u32,
            kind: Kind::Padding,
            flags: 0,
            extension: 0,
            mailbox: 0,
        };
        self.ring.publish(self.position, header.first_word(), 0);
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            self.abandon();
        }
    }
}

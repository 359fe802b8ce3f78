//! Claims: slots of a send ring, taken by any number of threads at once, written in place, and published in any order.

#![allow(unsafe_code)]

use super::Position;
use super::send::{CLOSED, SendRing};
use crate::frame::{self, HEADER, Header, Kind};
use crate::sync::atomic::Ordering;

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

impl SendRing {
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
                self.publish_padding(tail, padding);
            }
            return Ok(Claim {
                ring: self,
                position: tail + padding,
                len,
                open: true,
            });
        }
    }

    /// Publishes padding of `size` bytes where the ring ends, which the caller has claimed.
    #[cold]
    pub(super) fn publish_padding(&self, position: Position, size: u64) {
        let header = Header {
            length: (size as usize - HEADER) as u32,
            kind: Kind::Padding,
            flags: 0,
            extension: 0,
            mailbox: 0,
        };
        self.publish(position, header.first_word(), 0);
    }

    /// Bytes free above `tail`; where the peer shares the ring, looks at what it says only when what is known does not suffice.
    #[inline(always)]
    pub(super) fn free(&self, tail: Position, needed: u64) -> u64 {
        let free = self.free_below(self.released.load(Ordering::Acquire), tail);
        match &self.shared {
            Some(shared) if free < needed => self.make_room(shared, tail, needed),
            _ => free,
        }
    }

    #[inline]
    pub(super) fn free_below(&self, released: Position, tail: Position) -> u64 {
        self.usable.saturating_sub(tail.saturating_sub(released))
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

//! Whole frames, written and published at once: one claim for all of them, and one store that shows them.

#![allow(unsafe_code)]

use super::Position;
use super::claim::ClaimError;
use super::send::{CLOSED, SendRing};
use crate::frame::{self, HEADER, Header, Integrity, Kind};
use crate::sync::atomic::Ordering;

/// Bytes claimed at once, unless one frame is longer: whoever claims behind them waits until they are written.
const SPAN: u64 = if cfg!(loom) { 128 } else { 4 << 10 };

impl SendRing {
    /// Writes a frame of this kind, for this mailbox, around each of the bodies: as many of the first of them as there is room
    /// for in one piece of the ring, and of those as many as `allow` says, which is asked once and told how many fit. They become
    /// visible together, in their order. Returns how many: fewer than allowed where others have taken room meanwhile.
    ///
    /// # Errors
    /// As [`SendRing::claim`], of the first.
    #[inline(always)]
    pub fn write(
        &self,
        kind: Kind,
        mailbox: u16,
        mut bodies: &[&[u8]],
        mut allow: impl FnMut(usize) -> usize,
    ) -> Result<usize, ClaimError> {
        let Some(first) = bodies.first() else {
            return Ok(0);
        };
        let mut asked = false;
        let max = self.max_body();
        if first.len() > max {
            return Err(ClaimError::TooLarge {
                len: first.len(),
                max,
            });
        }
        let one = frame::size(first.len()) as u64;
        let (start, count) = loop {
            let tail = self.claimed.load(Ordering::Relaxed);
            if tail & CLOSED != 0 {
                return Err(ClaimError::Closed);
            }
            let to_end = self.capacity - (tail & (self.capacity - 1));
            let (padding, piece) = match one <= to_end {
                true => (0, to_end),
                false => (to_end, self.capacity),
            };
            let needed = padding + one;
            let free = self.free(tail, needed);
            if needed > free {
                return Err(ClaimError::Full { free, needed });
            }
            let most = (free - padding).min(piece).min(SPAN);
            let (mut count, mut size) = (1, one);
            while let Some(body) = bodies.get(count) {
                let next = size + frame::size(body.len().min(max)) as u64;
                if next > most || body.len() > max {
                    break;
                }
                (count, size) = (count + 1, next);
            }
            if !asked {
                asked = true;
                let allowed = allow(count).min(count);
                bodies = &bodies[..allowed];
                if allowed == 0 {
                    return Ok(0);
                }
                if allowed < count {
                    continue;
                }
            }
            // Release: as in `claim`.
            if self
                .claimed
                .compare_exchange_weak(tail, tail + padding + size, Ordering::Release, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            if padding > 0 {
                self.publish_padding(tail, padding);
            }
            break (tail + padding, count);
        };
        let mut position = start + one;
        for body in &bodies[1..count] {
            let word = self.fill(position, kind, mailbox, body);
            // Relaxed: nobody looks here before the first word, below, has led past.
            self.word(position).store(word, Ordering::Relaxed);
            position += frame::size(body.len()) as u64;
        }
        let word = self.fill(start, kind, mailbox, first);
        // Release: whoever sees this word non-zero sees all the frames.
        self.word(start).store(word, Ordering::Release);
        Ok(count)
    }

    /// Writes all of a frame at `position` but its first word, which it returns. The place must be claimed by the caller.
    #[inline(always)]
    fn fill(&self, position: Position, kind: Kind, mailbox: u16, body: &[u8]) -> u64 {
        let offset = self.offset(position + HEADER as u64);
        // SAFETY: the compare-and-swap in `write` gave these bytes to this thread alone; they are inside the ring and do not
        // wrap, because it claims no further than the ring's end.
        unsafe { self.memory.bytes_mut(offset, body.len()) }.copy_from_slice(body);
        let first = Header {
            length: body.len() as u32,
            kind,
            flags: 0,
            extension: 0,
            mailbox,
        }
        .first_word();
        if let Integrity::Checked(checksum) = &self.integrity {
            self.write_checksum(checksum, position, first, body.len());
        }
        first
    }
}

//! Payloads that are lent: frames of which the ring holds header and extension, while the rest stands in a [buffer](crate::Buffer).
//!
//! Such a frame has its place in the ring like any other, and the bytes that are to appear at the peer are the same; where its
//! payload belongs the send ring is zero. Only a link that gathers is shown one
//! ([`LinkSender::gathers`](crate::link::LinkSender::gathers)). When that link is gone the frames are *settled*: their payloads are
//! copied to their places, and whatever link comes next carries them, or the dead letters show them.
//!
//! Whether frames may be lent is decided, and a lent frame published, under one lock; so none is published that the settling
//! does not find.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::claim::Claim;
use super::send::{SendRing, zero};
use super::{Piece, Position};
use crate::buffer::Part;
use crate::frame::{HEADER, Kind};
use crate::wait::lock;

/// The frames of a send ring whose payloads are lent.
#[derive(Default)]
pub(super) struct Lent {
    /// Whether there may be any. Set before the first is published; so whoever has seen its first word sees this too.
    any: AtomicBool,
    frames: Mutex<Frames>,
}

#[derive(Default)]
struct Frames {
    /// The link gathers: payloads may be lent.
    wanted: bool,
    /// In the order of their positions.
    lent: VecDeque<LentFrame>,
}

struct LentFrame {
    position: Position,
    /// Where its payload belongs.
    payload: Position,
    end: Position,
    part: Part,
}

impl LentFrame {
    fn payload_end(&self) -> Position {
        self.payload + self.part.bytes().len() as u64
    }
}

/// What a link that gathers carries in one write.
pub struct Gathered {
    /// Where it ends.
    pub piece: Piece,
    /// Where the piece is one frame whose payload is lent: bytes that come out of the ring, before those of the part.
    pub lent: Option<(usize, Part)>,
}

impl SendRing {
    /// Payloads may be lent from here on, or not.
    ///
    /// Called for each new link, before it pushes, after [`SendRing::settle`].
    pub(crate) fn lend(&self, gathers: bool) {
        lock(&self.lent.frames).wanted = gathers;
    }

    /// Copies what is lent to where it belongs; from here on nothing is lent. Called when the link is gone, by whoever
    /// releases.
    pub(crate) fn settle(&self) {
        let mut frames = lock(&self.lent.frames);
        frames.wanted = false;
        for frame in frames.lent.drain(..) {
            self.copy_in(&frame);
        }
        self.lent.any.store(false, Ordering::Relaxed);
    }

    /// Copies the payload of the frame at `position` to where it belongs, for a link that cannot take it from its buffer.
    /// By the thread that pushes, of a frame that has not been pushed.
    pub fn settle_frame(&self, position: Position) {
        let mut frames = lock(&self.lent.frames);
        let at = frames.lent.partition_point(|frame| frame.position < position);
        if frames
            .lent
            .get(at)
            .is_some_and(|frame| frame.position == position)
            && let Some(frame) = frames.lent.remove(at)
        {
            self.copy_in(&frame);
        }
    }

    fn copy_in(&self, frame: &LentFrame) {
        let bytes = frame.part.bytes();
        // SAFETY: inside the ring, as the claim of the frame was. The frame is committed and not released, so no producer writes
        // there; no link reads there, because none has been shown these bytes: see the callers.
        unsafe { self.memory.bytes_mut(self.offset(frame.payload), bytes.len()) }.copy_from_slice(bytes);
    }

    /// As [`SendRing::committed_piece`], for a link that gathers: a frame whose payload is lent comes alone.
    pub fn gathered_piece(&self, from: Position, limit: u64) -> Gathered {
        let piece = self.committed_piece(from, limit);
        if !self.lent.any.load(Ordering::Relaxed) {
            return Gathered { piece, lent: None };
        }
        let frames = lock(&self.lent.frames);
        let at = frames.lent.partition_point(|frame| frame.position < from);
        match frames.lent.get(at).filter(|frame| frame.position < piece.end) {
            None => Gathered { piece, lent: None },
            Some(frame) if frame.position == from => Gathered {
                piece: Piece {
                    end: frame.end,
                    content_end: frame.payload_end(),
                },
                lent: Some(((frame.payload - frame.position) as usize, frame.part.clone())),
            },
            Some(frame) => Gathered {
                piece: Piece {
                    end: frame.position,
                    content_end: piece.content_end.min(frame.position),
                },
                lent: None,
            },
        }
    }

    /// Zeroes what has been consumed, from `from` to `to`, where it is not zero, and lets go of what was lent there.
    #[inline]
    pub(super) fn clear(&self, from: Position, to: Position) {
        let from = match self.lent.any.load(Ordering::Relaxed) {
            false => from,
            true => self.clear_around_lent(from, to),
        };
        zero(&self.memory, from, to);
    }

    #[cold]
    fn clear_around_lent(&self, mut from: Position, to: Position) -> Position {
        let mut frames = lock(&self.lent.frames);
        while let Some(frame) = frames.lent.front()
            && frame.position < to
        {
            zero(&self.memory, from, frame.payload);
            from = frame.payload_end();
            frames.lent.pop_front();
        }
        self.lent.any.store(!frames.lent.is_empty(), Ordering::Relaxed);
        from
    }
}

impl Claim<'_> {
    /// Publishes the frame, whose extension has been written and whose payload, the rest of the body, is `part`: lent where
    /// the link gathers, otherwise copied.
    ///
    /// # Panics
    /// When extension and part are not as long as what was claimed.
    pub(crate) fn commit_lent(mut self, kind: Kind, flags: u8, extension: u8, mailbox: u16, part: Part) {
        let (ring, head) = (self.ring, usize::from(extension));
        assert_eq!(self.len, head + part.bytes().len());
        let mut frames = lock(&ring.lent.frames);
        if !frames.wanted || ring.integrity.is_checked() {
            drop(frames);
            self.body()[head..].copy_from_slice(part.bytes());
            self.commit(kind, flags, extension, mailbox);
            return;
        }
        ring.lent.any.store(true, Ordering::Relaxed);
        let position = self.position();
        let frame = LentFrame {
            position,
            payload: position + (HEADER + head) as u64,
            end: self.end(),
            part,
        };
        // Claims are published in any order; mostly in theirs.
        let at = frames.lent.partition_point(|other| other.position < position);
        frames.lent.insert(at, frame);
        // Still under the lock.
        self.commit(kind, flags, extension, mailbox);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;
    use crate::buffer::BufferPool;
    use crate::frame::{Integrity, size};
    use crate::memory::RingMemory;
    use crate::random::Random;

    const CAPACITY: usize = 4096;
    const EXTENSION: usize = 16;

    fn ring() -> SendRing {
        SendRing::new(RingMemory::anonymous(CAPACITY).unwrap(), Integrity::None)
    }

    fn commit(ring: &SendRing, number: u8, payload: &[u8], lent: Option<&Arc<BufferPool>>) -> bool {
        let Ok(mut claim) = ring.claim(EXTENSION + payload.len()) else {
            return false;
        };
        claim.body()[..EXTENSION].fill(number);
        match lent {
            Some(pool) => {
                let mut buffer = pool.take(payload.len()).unwrap();
                buffer.copy_from_slice(payload);
                let part = buffer.part(0..payload.len());
                claim.commit_lent(Kind::Chunk, number, EXTENSION as u8, 7, part);
            }
            None => {
                claim.body()[EXTENSION..].copy_from_slice(payload);
                claim.commit(Kind::Chunk, number, EXTENSION as u8, 7);
            }
        }
        true
    }

    fn is_zero(ring: &SendRing, from: Position, to: Position) -> bool {
        (from..to).step_by(8).all(|at| {
            ring.memory
                .word(ring.offset(at))
                .load(crate::sync::atomic::Ordering::Relaxed)
                == 0
        })
    }

    /// Random sends, pushes, acknowledgements and changes of link: what a link gathers, and what one finds in the ring that does
    /// not gather, is what a ring has that everything was copied into.
    #[test]
    fn what_is_lent_travels_as_the_bytes_that_would_have_been_copied() {
        let pool = Arc::new(BufferPool::default());
        let (lending, copied) = (ring(), ring());
        lending.lend(true);
        let mut gathers = true;
        let mut random = Random::new(1);
        let (mut pushed, mut released) = (0, 0);
        let mut ends = VecDeque::new();
        let (mut alone, mut settled) = (0, 0);
        for step in 0..20_000_u64 {
            match random.below(10) {
                0..4 => {
                    let payload: Vec<u8> = (0..random.below(900))
                        .map(|byte| (byte + step) as u8 | 1)
                        .collect();
                    let lent = (random.below(3) > 0).then_some(&pool);
                    let fits = commit(&lending, step as u8, &payload, lent);
                    assert_eq!(fits, commit(&copied, step as u8, &payload, None));
                }
                4..7 => {
                    let limit = 1 + random.below(2_000);
                    let (piece, part) = if gathers {
                        let Gathered { piece, lent } = lending.gathered_piece(pushed, limit);
                        (piece, lent)
                    } else {
                        (lending.committed_piece(pushed, limit), None)
                    };
                    let mut bytes = lending.span(pushed, piece.content_end).concat();
                    if let Some((head, part)) = part {
                        assert!(bytes[head..].iter().all(|byte| *byte == 0));
                        bytes.truncate(head);
                        bytes.extend_from_slice(part.bytes());
                        assert_eq!(piece.end - pushed, size(bytes.len() - HEADER) as u64, "one frame");
                        alone += 1;
                    }
                    copied.committed(pushed, u64::MAX);
                    let whole = copied.span(pushed, piece.end).concat();
                    assert_eq!(whole[..bytes.len()], bytes);
                    assert!(whole[bytes.len()..].iter().all(|byte| *byte == 0));
                    pushed = piece.end;
                    if pushed > released {
                        ends.push_back(pushed);
                    }
                }
                7 | 8 => {
                    let Some(end) = ends.pop_front() else { continue };
                    lending.release(end).unwrap();
                    copied.release(end).unwrap();
                    released = end;
                    let free = released + CAPACITY as u64;
                    assert!(is_zero(&lending, lending.claimed(), free));
                }
                _ if random.below(10) == 0 => {
                    // The next link goes on from what was acknowledged.
                    settled += usize::from(lending.lent.any.load(Ordering::Relaxed));
                    lending.settle();
                    gathers = random.below(2) == 0;
                    lending.lend(gathers);
                    (pushed, ends) = (released, VecDeque::new());
                }
                _ => {}
            }
        }
        assert!(alone > 500 && settled > 20, "{alone} {settled}");
        lending.settle();
        let left = |ring: &SendRing| ring.span(released, ring.claimed()).concat();
        assert_eq!(left(&lending), left(&copied));
    }

    #[test]
    fn a_frame_that_the_device_does_not_take_is_copied_alone() {
        let pool = Arc::new(BufferPool::default());
        let ring = ring();
        ring.lend(true);
        assert!(commit(&ring, 1, &[5; 100], Some(&pool)));
        assert!(commit(&ring, 2, &[6; 100], Some(&pool)));
        ring.settle_frame(0);
        let Gathered { piece, lent } = ring.gathered_piece(0, u64::MAX);
        assert!(lent.is_none());
        let bytes = ring.span(0, piece.end).concat();
        assert_eq!(bytes[HEADER + EXTENSION..][..100], [5; 100]);
        let Gathered { lent, .. } = ring.gathered_piece(piece.end, u64::MAX);
        let (head, part) = lent.expect("the second is lent still");
        assert_eq!((head, part.bytes()), (HEADER + EXTENSION, &[6; 100][..]));
    }
}

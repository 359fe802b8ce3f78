//! The receiving half: frames are read in place, checked, and consumed in order.

#![allow(unsafe_code)]

use super::send::zero;
use super::{CACHE_LINE, CONSUMED, MIN_CAPACITY, Position, max_frame};
use crate::breakage::{Breakage, is_broken};
use crate::frame::{self, FrameError, HEADER, Header, Integrity, Kind, field};
use crate::lane::Lane;
use crate::memory::RingMemory;
use crate::sync::atomic::Ordering;

/// How a link lets the receiver know which bytes have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The link says up to which position it has written: [`ReceiveRing::arrived`].
    Counted,
    /// The sender stores a frame's first word last, with release order: a word that is not zero is a whole frame.
    Published,
    /// Bytes may become visible late, partly and in any order: a frame is there when its checksum holds.
    Checked,
    /// As [`Arrival::Counted`], in a ring that is kept zero: bytes that are not zero beyond what has arrived are a sign
    /// that it is worth asking the link, [`ReceiveRing::stirs`]. How the large lane of a link arrives whose other
    /// lanes are [`Arrival::Checked`], and every lane where the link itself is so.
    Noticed,
}

impl Arrival {
    /// How a lane arrives over a link that arrives in this way. A checksum over a large frame costs more than a notice
    /// of its arrival.
    pub fn of(self, lane: Lane) -> Arrival {
        match (self, lane) {
            (Arrival::Checked, Lane::Large) => Arrival::Noticed,
            _ => self,
        }
    }

    fn is_told(self) -> bool {
        matches!(self, Arrival::Counted | Arrival::Noticed)
    }
}

/// The receiver's ring of one lane.
pub struct ReceiveRing {
    memory: RingMemory,
    capacity: u64,
    integrity: Integrity,
    arrival: Arrival,
    /// Everything below has been consumed.
    consumed: Position,
    /// Everything below has arrived, where the link counts.
    arrived: Position,
    /// Where the sender, which maps the same memory, is told of each frame that was consumed.
    cell: Option<RingMemory>,
}

/// A frame that stands in a receive ring.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'r> {
    /// Where it stands.
    pub position: Position,
    /// Its header, copied out once.
    pub header: Header,
    /// Extension and payload.
    pub body: &'r [u8],
}

impl<'r> Frame<'r> {
    /// The extension and the payload.
    #[inline]
    pub fn parts(&self) -> (&'r [u8], &'r [u8]) {
        self.body.split_at(usize::from(self.header.extension))
    }
}

impl ReceiveRing {
    /// A ring over zeroed memory whose length is the capacity.
    ///
    /// # Panics
    /// When the length is not a power of two of at least 4 KiB, or when [`Arrival::Checked`] goes without checksums.
    pub fn new(memory: RingMemory, integrity: Integrity, arrival: Arrival) -> ReceiveRing {
        let capacity = memory.len() as u64;
        assert!(
            capacity.is_power_of_two() && capacity >= MIN_CAPACITY,
            "ring capacity {capacity} is not a power of two >= {MIN_CAPACITY}"
        );
        assert!(
            arrival != Arrival::Checked || integrity.is_checked(),
            "checked arrival needs checksums"
        );
        ReceiveRing {
            memory,
            capacity,
            integrity,
            arrival,
            consumed: 0,
            arrived: 0,
            cell: None,
        }
    }

    /// Tells the sender, which maps the same memory, of each frame that is consumed: in the word [`CONSUMED`] of `cell`.
    pub fn tell_in(&mut self, cell: RingMemory) {
        self.cell = Some(cell);
    }

    /// Capacity in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The memory behind the ring, for registration with a device.
    pub fn memory(&self) -> &RingMemory {
        &self.memory
    }

    /// The position up to which frames have been consumed: what is acknowledged, and where a new link resumes.
    pub fn consumed(&self) -> Position {
        self.consumed
    }

    /// Forgets what arrived but was not consumed, when the link is gone: the next one brings it again. Must be called
    /// after the last write of the old link and before the first of the next.
    pub fn forget_unconsumed(&mut self) {
        zero(&self.memory, self.consumed, self.consumed + self.capacity);
        self.arrived = self.consumed;
    }

    /// Goes on with a link that tells arrival in this way.
    ///
    /// # Panics
    /// When [`Arrival::Checked`] goes without checksums.
    pub fn resume(&mut self, arrival: Arrival) {
        assert!(
            arrival != Arrival::Checked || self.integrity.is_checked(),
            "checked arrival needs checksums"
        );
        self.arrival = arrival;
    }

    #[inline]
    fn offset(&self, position: Position) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    /// How the link lets it know what has arrived.
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Where a counting link writes what it receives next: the longest piece that does not wrap and that the
    /// sender has credit for.
    pub fn writable(&mut self) -> &mut [u8] {
        let offset = self.offset(self.arrived);
        let free = self.capacity - (self.arrived - self.consumed);
        let len = free.min(self.capacity - offset as u64) as usize;
        // SAFETY: inside the memory by the computation above; the bytes lie outside [consumed, arrived), so no
        // frame borrowed from this ring covers them, and `&mut self` keeps it so.
        unsafe { self.memory.bytes_mut(offset, len) }
    }

    /// The position up to which the link has written.
    pub fn arrived(&self) -> Position {
        self.arrived
    }

    /// Whether bytes stand beyond what the link has told of, in a ring that is [`Arrival::Noticed`]: a sign that there is
    /// something to tell. Reads one word of memory.
    #[inline]
    pub fn stirs(&self) -> bool {
        self.arrival == Arrival::Noticed
            && self
                .memory
                .word(self.offset(self.arrived))
                .load(Ordering::Relaxed)
                != 0
    }

    /// Records that the link wrote `len` bytes of what [`ReceiveRing::writable`] gave.
    ///
    /// # Panics
    /// When more is said to be written than there is room for.
    pub fn advance(&mut self, len: usize) {
        assert!(len as u64 <= self.capacity - (self.arrived - self.consumed));
        self.arrived += len as u64;
        // What comes next is written here: see `SendRing::fetch_ahead`.
        let next = self.offset(self.arrived);
        self.memory.prefetch(next);
        self.memory.prefetch(next + CACHE_LINE);
    }

    /// Whether nothing stands at the position that is read next. Never says so wrongly of a whole frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self.arrival {
            Arrival::Counted | Arrival::Noticed => self.arrived == self.consumed,
            Arrival::Published | Arrival::Checked => self.look() == 0,
        }
    }

    /// Looks at where the next frame will show itself, in a ring where frames do. What most frames have on the next cache line
    /// comes from as far as their first word: it is fetched with each look, so that it comes at the same time and not after.
    #[inline]
    fn look(&self) -> u64 {
        let offset = self.offset(self.consumed);
        self.memory.prefetch(offset + CACHE_LINE);
        // Relaxed: whoever goes on to read the frame looks again, in `peek`.
        self.memory.word(offset).load(Ordering::Relaxed)
    }

    /// Looks so many times at where the next frame of either ring will show itself: whether one has. Where frames do not show
    /// themselves, says at once that none has.
    pub fn linger(one: &ReceiveRing, other: &ReceiveRing, times: u32) -> bool {
        if one.arrival.is_told() || other.arrival.is_told() {
            return false;
        }
        let next_line = one.offset(one.consumed) + CACHE_LINE;
        let [first, second] = [one, other].map(|ring| ring.memory.word(ring.offset(ring.consumed)));
        (0..times).any(|_| {
            // As in `look`.
            one.memory.prefetch(next_line);
            (first.load(Ordering::Relaxed) | second.load(Ordering::Relaxed)) != 0
        })
    }

    /// The next frame, padding included, if it is there.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not what any correct peer sends: close the session.
    #[inline(always)]
    pub fn peek(&self) -> Result<Option<Frame<'_>>, FrameError> {
        let position = self.consumed;
        let offset = self.offset(position);
        let there = match self.arrival.is_told() {
            true => self.arrived - position,
            false => u64::MAX,
        };
        if there < HEADER as u64 {
            return Ok(None);
        }
        // Acquire: pairs with the release of the frame's first word where the ring is shared.
        let first = self.memory.word(offset).load(Ordering::Acquire);
        if first == 0 {
            return match self.arrival {
                Arrival::Counted | Arrival::Noticed => Err(FrameError::UnknownKind { kind: 0, position }),
                Arrival::Published | Arrival::Checked => Ok(None),
            };
        }
        // As in `look`, where nobody has looked before.
        self.memory.prefetch(offset + CACHE_LINE);
        let header = match Header::decode(first, position, self.max_length(first, offset)) {
            Ok(header) => header,
            // A header that is half there looks like a wrong one; it is right or rewritten when whole.
            Err(_) if self.arrival == Arrival::Checked => return Ok(None),
            Err(error) => return Err(error),
        };
        if there < header.size() as u64 {
            return Ok(None);
        }
        // SAFETY: offset + HEADER + length is inside the ring by `max_length`. The sender writes these bytes only
        // after we acknowledge them, which `&self` excludes; a peer that breaks this tears its own messages.
        let body = unsafe { self.memory.bytes(offset + HEADER, header.length as usize) };
        if let Integrity::Checked(checksum) = &self.integrity {
            let covered = if header.kind == Kind::Padding { &[] } else { body };
            // SAFETY: as for the body.
            let told = unsafe {
                self.memory
                    .bytes(offset + field::CHECKSUM.start, field::CHECKSUM.len())
            };
            let differs = checksum.of(position, first, covered).to_le_bytes() != *told;
            if differs && !is_broken(Breakage::BelievesEveryFrame) {
                return match self.arrival {
                    Arrival::Checked => Ok(None),
                    Arrival::Counted | Arrival::Published | Arrival::Noticed => {
                        Err(FrameError::Checksum { position })
                    }
                };
            }
        }
        Ok(Some(Frame {
            position,
            header,
            body,
        }))
    }

    /// The longest extension and payload that a frame at `offset` may have: it must not wrap, and only padding may
    /// be longer than a quarter of the ring.
    #[inline]
    fn max_length(&self, first: u64, offset: usize) -> u32 {
        let to_end = self.capacity as usize - offset - HEADER;
        let limit = if frame::is_padding(first) {
            to_end
        } else {
            to_end.min(max_frame(self.capacity as usize) - HEADER)
        };
        limit as u32
    }

    /// Consumes the frame that [`ReceiveRing::peek`] showed, of `size` bytes in the ring.
    ///
    /// # Panics
    /// When such a frame would wrap.
    #[inline(always)]
    pub fn consume(&mut self, size: usize) {
        let next = self.consumed + size as u64;
        match self.arrival {
            Arrival::Counted => {}
            Arrival::Published => self.tell(next),
            Arrival::Checked | Arrival::Noticed => self.zero_frame(size),
        }
        self.consumed = next;
        self.arrived = self.arrived.max(next);
    }

    /// Tells the sender that everything below `next` was consumed. The sender zeroes it.
    #[inline]
    fn tell(&self, next: Position) {
        if let Some(cell) = &self.cell {
            // Relaxed: read when this side is gone, and followed by nothing.
            cell.word(CONSUMED).store(next, Ordering::Relaxed);
        }
    }

    /// Zeroes the frame that is read next, of `size` bytes.
    #[inline]
    fn zero_frame(&self, size: usize) {
        let offset = self.offset(self.consumed);
        // Frames do not wrap.
        assert!(size <= self.memory.len() - offset);
        // SAFETY: inside the memory, as just checked. Nobody else accesses a frame that was found and not acknowledged.
        unsafe { self.memory.zero(offset, size) };
    }
}

impl std::fmt::Debug for ReceiveRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveRing")
            .field("capacity", &self.capacity)
            .field("arrival", &self.arrival)
            .field("consumed", &self.consumed)
            .field("arrived", &self.arrived)
            .finish_non_exhaustive()
    }
}

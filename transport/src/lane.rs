//! Lanes: the independent ring pairs of one session.
//!
//! Each lane has its own ring in each direction, hence its own credit and its own order. Traffic of one lane
//! never waits for room in another: this is what keeps a heartbeat moving while a large message is in flight.

/// How many lanes a session has.
pub const LANES: usize = 3;

/// One of the ring pairs of a session, in the order in which links push them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Resolution, credit, heartbeat, and notices. Pushed first, never filled by data.
    Control = 0,
    /// Messages that are short enough not to hold others up.
    Ordinary = 1,
    /// Longer messages, in chunks, and short ones that keep their place behind such a message.
    Large = 2,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Lane; LANES] = [Lane::Control, Lane::Ordinary, Lane::Large];

    /// The lane with this number on the wire, if there is one.
    pub fn from_wire(number: u8) -> Option<Lane> {
        Lane::ALL.get(usize::from(number)).copied()
    }

    /// The lane's place in arrays indexed by lane.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Where a frame ended, in one of the lanes of its session. Frames end at multiples of 16, so the lane fits beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameEnd(u64);

impl FrameEnd {
    /// Of a message that came over no lane.
    pub(crate) const NOWHERE: FrameEnd = FrameEnd(0);

    pub(crate) fn new(lane: Lane, position: u64) -> FrameEnd {
        debug_assert!(position.is_multiple_of(crate::frame::ALIGNMENT as u64));
        FrameEnd(position | lane as u64)
    }

    pub(crate) fn lane(self) -> Lane {
        Lane::ALL[(self.0 & 3) as usize % LANES]
    }

    pub(crate) fn position(self) -> u64 {
        self.0 & !(crate::frame::ALIGNMENT as u64 - 1)
    }
}

/// Ring capacities of a session, in bytes, one for each lane. Each is a power of two, 4 KiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSizes {
    /// Capacity of the control ring.
    pub control: u32,
    /// Capacity of the ordinary ring. A quarter of it is the largest frame.
    pub ordinary: u32,
    /// Capacity of the large ring.
    pub large: u32,
}

/// Smallest ring: one page.
pub const MIN_RING: u32 = 4 << 10;
/// Largest ring.
pub const MAX_RING: u32 = 1 << 30;

impl Default for LaneSizes {
    fn default() -> Self {
        LaneSizes {
            control: 64 << 10,
            ordinary: 1 << 20,
            large: 4 << 20,
        }
    }
}

impl LaneSizes {
    /// The capacity of one lane's ring, in bytes.
    pub fn of(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Control => self.control,
            Lane::Ordinary => self.ordinary,
            Lane::Large => self.large,
        }
    }

    /// Whether every capacity is a power of two within the limits.
    pub fn are_valid(&self) -> bool {
        Lane::ALL.iter().all(|lane| {
            let size = self.of(*lane);
            size.is_power_of_two() && (MIN_RING..=MAX_RING).contains(&size)
        })
    }

    /// The sum of the capacities, in bytes.
    pub fn total(&self) -> usize {
        Lane::ALL.iter().map(|lane| self.of(*lane) as usize).sum()
    }
}

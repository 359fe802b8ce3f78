//! Notices: how the receiver learns how far a lane has arrived, where it does not find that out by itself: the large lane
//! always, the others where it asked for that ([`crate::SmallFrames::Announced`]).
//!
//! Each write of such a lane carries immediate data that tells where it ends. The receiver reads the bytes only after
//! it has the completion, so it needs no checksum over them: a completion of a write with immediate data stands for
//! data that is in place, of that write and of all before it on the connection (InfiniBand Architecture, volume 1, "Ordering
//! and atomicity": an application may rely on the contents of an RDMA write after the completion of a receive
//! work request that follows it on the same queue pair). That holds on devices too whose writes reach memory in any
//! order, relaxed ordering included: the completion is what they keep behind the data.
//!
//! A notice has bit 0 clear, where a wake-up ([`super::notify`]) has it set. Bits 1 and 2 are the lane's number. Above them
//! stand the lower 29 bits of the position, in units of frame alignment: more than any ring, so the receiver, who knows
//! which positions are possible, knows the whole of it.

use transport::frame::ALIGNMENT;
use transport::lane::Lane;
use transport::ring::Position;

use super::notify;

/// What a notice says of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice(u32);

/// Positions in a notice count this many bits, ...
const BITS: u32 = 29;
/// ... above the lane's number, above bit 0.
const LANE_BITS: u32 = 2;

impl Notice {
    /// The notice of a write that ends at `end`.
    pub(crate) fn of(end: Position) -> Notice {
        Notice((end / ALIGNMENT as u64) as u32 & (u32::MAX >> (32 - BITS)))
    }

    /// The immediate data.
    pub(crate) fn immediate(self, lane: Lane) -> u32 {
        (self.0 << LANE_BITS | lane.index() as u32) << 1
    }

    /// The notice in immediate data, and the number of its lane, which may be that of none; `None` when it is a wake-up.
    pub(crate) fn read(immediate: u32) -> Option<(usize, Notice)> {
        let lane = (immediate >> 1) & (u32::MAX >> (32 - LANE_BITS));
        (immediate & notify::ON == 0).then_some((lane as usize, Notice(immediate >> (1 + LANE_BITS))))
    }

    /// The first position from `known` on that the notice can mean.
    pub(crate) fn position(self, known: Position) -> Position {
        let before = Notice::of(known).0;
        let steps = self.0.wrapping_sub(before) & (u32::MAX >> (32 - BITS));
        known + u64::from(steps) * ALIGNMENT as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_tells_every_position_that_a_ring_can_have_arrived_at() {
        const RING: u64 = 1 << 30;
        for known in [0, 16, RING - 16, (1 << 33) - 16, 1 << 33, (1 << 61) + 48] {
            for more in [0, 16, 65_568, RING - 16, RING] {
                for lane in Lane::ALL {
                    let immediate = Notice::of(known + more).immediate(lane);
                    let (told_of, told) = Notice::read(immediate).expect("not a wake-up");
                    assert_eq!(told.position(known), known + more, "{known} + {more}");
                    assert_eq!(told_of, lane.index());
                }
            }
        }
        assert_eq!(Notice::read(notify::ON), None);
    }
}

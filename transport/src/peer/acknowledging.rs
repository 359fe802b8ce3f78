//! Acknowledging: what the peer is told of what was consumed, and when.

use std::sync::atomic::Ordering;

use super::PeerInner;
use super::receiving::Receive;
use crate::breakage::{Breakage, is_broken};
use crate::lane::{LANES, Lane};
use crate::ring::{Position, ReceiveRing};

/// What the peer is told of what this node has consumed, of each lane.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// What it is to be told of with the next push.
    noted: [Position; LANES],
    /// What of that has left, as far as is known.
    left: [Position; LANES],
    /// As long as less has been consumed there is nothing to note, unless all is to be told.
    next: [Position; LANES],
}

impl PeerInner {
    /// Tells the peer what was consumed, where a quarter of a ring has been, or all of it when `due`.
    pub(super) fn acknowledge(&self, receive: &mut Receive, due: bool) {
        if self.note_consumed(receive, due) {
            // Not `flush`: a bell is for commits; an acknowledgement is always pushed.
            self.push();
        }
    }

    /// Notes what the peer is to be told of, for the next push. Whether it has to be told now: a quarter of a ring it has not
    /// been told of. An eighth is told by the way, if something is pushed before that.
    #[inline]
    pub(super) fn note_consumed(&self, receive: &mut Receive, due: bool) -> bool {
        let nothing = |lane: Lane| {
            consumed(&receive.lanes.rings[lane.index()]) < receive.acknowledged.next[lane.index()]
        };
        if !due && !receive.tell_large && Lane::ALL.into_iter().all(nothing) {
            return false;
        }
        self.note_each(receive, due)
    }

    #[inline(never)]
    fn note_each(&self, receive: &mut Receive, due: bool) -> bool {
        let Receive {
            lanes,
            acknowledged,
            tell_large,
            ..
        } = receive;
        let (mut tell, mut by_the_way) = (false, false);
        // Over shared memory nothing is pushed that could take anything along.
        let by_the_way_each = if self.is_shared() { 4 } else { 8 };
        if !self.is_left_to_next_push() {
            acknowledged.left = acknowledged.noted;
        }
        for lane in Lane::ALL {
            let at = lane.index();
            let (consumed, capacity) = (consumed(&lanes.rings[at]), lanes.rings[at].capacity());
            let untold = consumed - acknowledged.left[at];
            let due = due || lane == Lane::Large && *tell_large;
            let is_told = untold >= capacity / 4 || due && untold > 0;
            let is_noted = is_told || consumed - acknowledged.noted[at] >= capacity / by_the_way_each;
            if is_told {
                acknowledged.left[at] = consumed;
                tell = true;
            }
            if is_noted {
                by_the_way |= !is_told;
                acknowledged.noted[at] = consumed;
                self.send.acknowledge[at].store(consumed, Ordering::Release);
            }
            acknowledged.next[at] = (acknowledged.left[at] + capacity / 4)
                .min(acknowledged.noted[at] + capacity / by_the_way_each);
        }
        *tell_large = false;
        if by_the_way {
            self.leave_to_next_push();
        }
        tell
    }
}

/// How far a lane has been consumed.
#[inline]
fn consumed(ring: &ReceiveRing) -> Position {
    match is_broken(Breakage::AcknowledgesEarly) {
        true => ring.arrived(),
        false => ring.consumed(),
    }
}

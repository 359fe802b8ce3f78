//! The link: what is the same on every fabric.
//!
//! The sending half turns what is committed into as few writes as the rings allow (two where one wraps), the control
//! lane first, with the acknowledgements that have moved. The receiving half looks at memory. Neither keeps anything
//! that a later link would need.

use std::os::fd::BorrowedFd;

use transport::lane::{LANES, Lane};
use transport::link::{LinkError, LinkReceiver, LinkSender, Push, ReceiveLanes, SendLanes};
use transport::ring::{Arrival, Piece, Position, ReceiveRing, SendRing};

use crate::fabric::{Inbound, Lent, Outbound, Request};
use crate::limits::{BATCH, LARGE_SPAN, LINGERING_LOOKS, PIECES, QUIET_PART, QUIET_SPAN, SPAN};

/// The half of a link that pushes.
pub(crate) struct Sender<F> {
    fabric: F,
    /// Up to where each lane has been pushed.
    pushed: [Position; LANES],
    /// What the peer was last told of each lane.
    told: [Position; LANES],
    /// Up to where the large lane has been pushed by writes that wake the peer.
    woken: Position,
    /// What is posted together, with room for all of it from the beginning: a push allocates nothing.
    batch: Vec<Request>,
}

impl<F: Outbound> Sender<F> {
    pub(crate) fn new(fabric: F, from: [Position; LANES]) -> Sender<F> {
        Sender {
            fabric,
            pushed: from,
            told: [0; LANES],
            woken: from[Lane::Large.index()],
            batch: Vec::with_capacity(BATCH),
        }
    }

    /// Makes a batch of what there is to do now, as far as one batch holds it.
    fn collect(&mut self, lanes: &SendLanes, target: &[Position; LANES]) {
        self.batch.clear();
        for lane in Lane::ALL {
            let index = lane.index();
            let acknowledged = lanes.acknowledged(lane);
            if acknowledged > self.told[index] {
                self.batch.push(Request::Acknowledge {
                    lane,
                    position: acknowledged,
                });
            }
            if F::CARRIES && self.pushed[index] < target[index] {
                self.collect_span(lane, lanes.ring(lane));
            }
        }
    }

    /// Adds the writes of one lane's next span: one, or two where the ring wraps. Zeroes at the end of a write stay behind:
    /// the peer's ring is zero where nothing has been written since it was consumed.
    fn collect_span(&mut self, lane: Lane, ring: &SendRing) {
        let span = match lane {
            Lane::Control | Lane::Ordinary => SPAN,
            Lane::Large => LARGE_SPAN,
        };
        let from = self.pushed[lane.index()];
        let mask = ring.capacity() - 1;
        let mut position = from;
        for _ in 0..PIECES {
            let left = span - (position - from).min(span);
            let (piece, lent) = match F::GATHERS && lane == Lane::Large {
                true => self.gather(ring, position, left),
                false => (ring.committed_piece(position, left), None),
            };
            if piece.end == position {
                return;
            }
            let quiet = lane == Lane::Large && self.may_be_quiet(ring, piece.end);
            self.batch.push(Request::Write {
                lane,
                offset: (position & mask) as usize,
                len: (piece.content_end - position) as usize,
                end: piece.end,
                lent,
                quiet,
            });
            if piece.end & mask != 0 {
                return;
            }
            position = piece.end;
        }
    }

    /// Whether a sleeping peer need not hear of what ends here: more of the lane is committed, so that this or the next push
    /// carries it, and not too much has gone out unheard. Being woken for each chunk costs both ends more than it saves.
    fn may_be_quiet(&self, ring: &SendRing, end: Position) -> bool {
        let unheard = end.saturating_sub(self.woken);
        unheard <= QUIET_SPAN.min(ring.capacity() / QUIET_PART) && ring.goes_on(end)
    }

    /// The next piece, and where it is a frame whose payload is lent, from where the device takes that.
    fn gather(&mut self, ring: &SendRing, position: Position, limit: u64) -> (Piece, Option<Lent>) {
        let gathered = ring.gathered_piece(position, limit);
        let Some((head, part)) = gathered.lent else {
            return (gathered.piece, None);
        };
        let Some(memory) = self.fabric.lend(part.memory()) else {
            ring.settle_frame(position);
            return (gathered.piece, None);
        };
        let offset = part.offset();
        (gathered.piece, Some(Lent { head, memory, offset }))
    }

    /// The first `count` of the batch are on their way.
    fn taken(&mut self, count: usize) {
        for request in self.batch.iter().take(count) {
            match *request {
                Request::Write { lane, end, quiet, .. } => {
                    self.pushed[lane.index()] = end;
                    if lane == Lane::Large && !quiet {
                        self.woken = end;
                    }
                }
                Request::Acknowledge { lane, position } => self.told[lane.index()] = position,
            }
        }
    }
}

impl<F: Outbound> LinkSender for Sender<F> {
    fn gathers(&self) -> bool {
        F::GATHERS
    }

    fn push(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        // What is committed during the push belongs to the next one: a busy producer does not keep us here.
        let claimed = || match F::CARRIES {
            true => Lane::ALL.map(|lane| lanes.ring(lane).claimed()),
            false => [0; LANES],
        };
        let mut target = claimed();
        let large = target[Lane::Large.index()];
        loop {
            // But between two spans of the large lane the others are looked at anew, so that they wait for one only.
            if self.pushed[Lane::Large.index()] < large {
                target = claimed();
                target[Lane::Large.index()] = large;
            }
            self.collect(lanes, &target);
            if self.batch.is_empty() {
                return Ok(Push::Done);
            }
            let taken = self.fabric.post(&self.batch)?;
            self.taken(taken);
            if taken < self.batch.len() {
                return Ok(Push::Blocked);
            }
            let is_pushed = |lane: Lane| self.pushed[lane.index()] >= target[lane.index()];
            if !F::CARRIES || Lane::ALL.into_iter().all(is_pushed) {
                return Ok(Push::Done);
            }
        }
    }
}

/// The half of a link that receives.
pub(crate) struct Receiver<F> {
    fabric: F,
}

impl<F: Inbound> Receiver<F> {
    pub(crate) fn new(fabric: F) -> Receiver<F> {
        Receiver { fabric }
    }
}

impl<F: Inbound> LinkReceiver for Receiver<F> {
    fn poll(&mut self, lanes: &mut ReceiveLanes) -> Result<bool, LinkError> {
        let alive = self.fabric.tend();
        // Also of a dead link: what the peer had acknowledged before need not be sent again.
        let mut changed = false;
        for lane in Lane::ALL {
            let known = &mut lanes.credit[lane.index()];
            let credit = self.fabric.credit(lane, *known);
            if credit > *known {
                *known = credit;
                changed = true;
            }
        }
        alive?;
        for lane in Lane::ALL.into_iter().filter(|_| F::NOTICES) {
            let ring = lanes.ring(lane);
            // Frames that show themselves need no notice, and what a peer says of them changes nothing.
            if ring.arrival() != Arrival::Noticed {
                continue;
            }
            let arrived = self.fabric.arrived(lane, ring)?;
            if arrived != ring.arrived() {
                let room = ring.capacity() - (ring.arrived() - ring.consumed());
                let more = arrived.wrapping_sub(ring.arrived());
                if more > room {
                    return Err(LinkError::Protocol(format!(
                        "{more} bytes have arrived in the {lane:?} lane, whose ring has room for {room}"
                    )));
                }
                ring.advance(more as usize);
            }
            // A frame of which a part is there: the rest is under way, and not worth falling asleep for.
            changed |= ring.stirs();
        }
        Ok(changed || !lanes.handed_out().all(ReceiveRing::is_empty))
    }

    fn linger(&self, lanes: &ReceiveLanes) -> bool {
        let [control, ordinary, _] = &lanes.rings;
        ReceiveRing::linger(ordinary, control, LINGERING_LOOKS)
    }

    fn arm(&mut self, lanes: &ReceiveLanes) -> Result<bool, LinkError> {
        self.fabric.arm(&|fabric| {
            let no_credit = |lane: Lane| {
                let known = lanes.credit[lane.index()];
                fabric.credit(lane, known) <= known
            };
            Lane::ALL.into_iter().all(no_credit) && lanes.handed_out().all(ReceiveRing::is_empty)
        })
    }

    fn told(&mut self, closed: bool) {
        self.fabric.told(closed);
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.fabric.descriptors()
    }

    fn polls_memory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use transport::frame::{Integrity, Kind};
    use transport::lane::LaneSizes;
    use transport::link::{SendMemory, anonymous_lanes};

    use super::*;

    /// Takes everything, and remembers the writes of the large lane: their ends, and whether each was quiet.
    #[derive(Default)]
    struct Recorder(Vec<(Position, bool)>);

    impl Outbound for Recorder {
        const CARRIES: bool = true;
        const GATHERS: bool = false;

        fn post(&mut self, requests: &[Request]) -> Result<usize, LinkError> {
            for request in requests {
                match *request {
                    Request::Write {
                        lane: Lane::Large,
                        end,
                        quiet,
                        ..
                    } => self.0.push((end, quiet)),
                    Request::Write { quiet, .. } => assert!(!quiet, "other lanes wake"),
                    Request::Acknowledge { .. } => {}
                }
            }
            Ok(requests.len())
        }
    }

    fn commit(lanes: &SendLanes, lane: Lane, len: usize) {
        let kind = match lane {
            Lane::Large => Kind::Chunk,
            _ => Kind::Message,
        };
        lanes.ring(lane).claim(len).unwrap().commit(kind, 0, 0, 1);
    }

    #[test]
    fn of_what_is_pushed_together_on_the_large_lane_the_last_wakes_and_not_much_goes_unheard() {
        const CHUNK: usize = 64 << 10;
        let sizes = LaneSizes {
            large: 16 << 20,
            ..LaneSizes::default()
        };
        let memory = SendMemory {
            rings: anonymous_lanes(&sizes).unwrap(),
            cells: None,
        };
        let lanes = SendLanes::new(memory, Integrity::None);
        let mut sender = Sender::new(Recorder::default(), [0; LANES]);
        let mut pushed = |count: usize| {
            for _ in 0..count {
                commit(&lanes, Lane::Large, CHUNK);
            }
            commit(&lanes, Lane::Ordinary, 10);
            sender.push(&lanes).unwrap();
            std::mem::take(&mut sender.fabric.0)
        };
        assert_eq!(pushed(1).iter().filter(|(_, quiet)| *quiet).count(), 0);
        let four: Vec<bool> = pushed(4).into_iter().map(|(_, quiet)| quiet).collect();
        assert_eq!(four, [true, true, true, false]);
        let mut woken = None;
        let many = pushed(40);
        assert!(many.iter().filter(|(_, quiet)| *quiet).count() > 20);
        assert_eq!(many.last().map(|(_, quiet)| *quiet), Some(false));
        for (end, quiet) in many {
            let woken = woken.get_or_insert(end);
            assert!(
                end - *woken <= QUIET_SPAN + CHUNK as u64 + 64,
                "{} bytes unheard",
                end - *woken
            );
            if !quiet {
                *woken = end;
            }
        }
    }
}

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
use crate::limits::{BATCH, LARGE_SPAN, LINGERING_LOOKS, PIECES, SPAN};

/// The half of a link that pushes.
pub(crate) struct Sender<F> {
    fabric: F,
    /// Up to where each lane has been pushed.
    pushed: [Position; LANES],
    /// What the peer was last told of each lane.
    told: [Position; LANES],
}

impl<F: Outbound> Sender<F> {
    pub(crate) fn new(fabric: F, from: [Position; LANES]) -> Sender<F> {
        Sender {
            fabric,
            pushed: from,
            told: [0; LANES],
        }
    }

    /// What there is to do now, as far as one batch holds it.
    fn collect(&mut self, lanes: &SendLanes, target: &[Position; LANES], batch: &mut Batch) {
        for lane in Lane::ALL {
            let index = lane.index();
            let acknowledged = lanes.acknowledged(lane);
            if acknowledged > self.told[index] {
                batch.add(Request::Acknowledge {
                    lane,
                    position: acknowledged,
                });
            }
            if F::CARRIES && self.pushed[index] < target[index] {
                self.collect_span(lane, lanes.ring(lane), batch);
            }
        }
    }

    /// Adds the writes of one lane's next span: one, or two where the ring wraps. Zeroes at the end of a write stay behind:
    /// the peer's ring is zero where nothing has been written since it was consumed.
    fn collect_span(&mut self, lane: Lane, ring: &SendRing, batch: &mut Batch) {
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
            batch.add(Request::Write {
                lane,
                offset: (position & mask) as usize,
                len: (piece.content_end - position) as usize,
                end: piece.end,
                lent,
            });
            if piece.end & mask != 0 {
                return;
            }
            position = piece.end;
        }
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

    fn taken(&mut self, requests: &[Request]) {
        for request in requests {
            match *request {
                Request::Write { lane, end, .. } => self.pushed[lane.index()] = end,
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
            let mut batch = Batch::new();
            self.collect(lanes, &target, &mut batch);
            let requests = batch.requests();
            if requests.is_empty() {
                return Ok(Push::Done);
            }
            let taken = self.fabric.post(requests)?;
            self.taken(&requests[..taken.min(requests.len())]);
            if taken < requests.len() {
                return Ok(Push::Blocked);
            }
            if !F::CARRIES {
                return Ok(Push::Done);
            }
        }
    }
}

/// Requests on the stack: a push allocates nothing.
struct Batch {
    requests: [Request; BATCH],
    len: usize,
}

impl Batch {
    fn new() -> Batch {
        let none = Request::Acknowledge {
            lane: Lane::Control,
            position: 0,
        };
        Batch {
            requests: [none; BATCH],
            len: 0,
        }
    }

    fn add(&mut self, request: Request) {
        self.requests[self.len] = request;
        self.len += 1;
    }

    fn requests(&self) -> &[Request] {
        &self.requests[..self.len]
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
        Ok(changed || !lanes.rings.iter().all(ReceiveRing::is_empty))
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
            Lane::ALL.into_iter().all(no_credit) && lanes.rings.iter().all(ReceiveRing::is_empty)
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

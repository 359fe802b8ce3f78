//! The two halves of a link over a stream in memory, which cuts the bytes wherever it likes.

mod histories;
mod hostile;
mod pushes;
mod reads;
mod sleeping;

use std::collections::VecDeque;

use transport::frame::{Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{Push, ReceiveLanes, SendLanes, SendMemory, anonymous_lanes};
use transport::ring::{Arrival, Position};

use crate::pipe::Pipe;
use crate::receiver::SpanReceiver;
use crate::sender::{Offered, SpanSender};

const SMALL: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 4 << 10,
    large: 128 << 10,
};

const ROOMY: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 1 << 20,
    large: 2 << 20,
};

/// One end of a session: its rings, its link, and a plain model of what must come.
struct End {
    send: SendLanes,
    receive: ReceiveLanes,
    sender: SpanSender<Pipe>,
    receiver: SpanReceiver<Pipe>,
    /// What the other end has committed and this one has not consumed: where it stands, and its bytes.
    expected: [VecDeque<(Position, Vec<u8>)>; LANES],
}

impl End {
    fn new(pipe: Pipe, sizes: &LaneSizes) -> End {
        let memory = SendMemory {
            rings: anonymous_lanes(sizes).unwrap(),
            cells: None,
        };
        let offered = Offered::starting([0; LANES]);
        End {
            send: SendLanes::new(memory, Integrity::None),
            receive: ReceiveLanes::new(anonymous_lanes(sizes).unwrap(), Integrity::None, Arrival::Counted),
            sender: SpanSender::new(pipe.clone(), [0; LANES], offered.clone()),
            receiver: SpanReceiver::new(pipe, offered),
            expected: Default::default(),
        }
    }

    fn pair(seed: u64, capacity: usize, cut: usize, sizes: &LaneSizes) -> (End, End) {
        let (one, other) = Pipe::pair(seed, capacity, cut);
        (End::new(one, sizes), End::new(other, sizes))
    }

    /// Commits a frame, if there is room; returns where it stands.
    fn commit(&self, lane: Lane, body: &[u8]) -> Option<Position> {
        let mut claim = self.send.ring(lane).claim(body.len()).ok()?;
        claim.body().copy_from_slice(body);
        let position = claim.position();
        claim.commit(Kind::Message, 0, 0, 7);
        Some(position)
    }

    fn commit_for(&self, other: &mut End, lane: Lane, body: Vec<u8>) {
        if let Some(position) = self.commit(lane, &body) {
            other.expected[lane.index()].push_back((position, body));
        }
    }

    /// Consumes the next frame of a lane, which must be the one that the model expects.
    fn consume(&mut self, lane: Lane) -> bool {
        let ring = self.receive.ring(lane);
        let Some(frame) = ring.peek().unwrap() else {
            return false;
        };
        let size = frame.header.size();
        if frame.header.kind == Kind::Message {
            let (position, body) = self.expected[lane.index()]
                .pop_front()
                .expect("a frame that nobody committed");
            assert_eq!(frame.position, position);
            assert!(frame.body == body, "other bytes at position {position}");
        }
        ring.consume(size);
        true
    }

    fn acknowledge(&self, lane: Lane) {
        use std::sync::atomic::Ordering;
        let consumed = self.receive.rings[lane.index()].consumed();
        self.send.acknowledge[lane.index()].store(consumed, Ordering::Release);
    }

    fn push(&mut self) -> Push {
        self.sender.push_spans(&self.send).unwrap()
    }

    fn poll(&mut self) -> bool {
        let changed = self.receiver.poll_spans(&mut self.receive).unwrap();
        for lane in Lane::ALL {
            self.send
                .ring(lane)
                .release(self.receive.credit[lane.index()])
                .unwrap();
        }
        changed
    }

    fn consumed(&self) -> [Position; LANES] {
        self.receive.rings.each_ref().map(|ring| ring.consumed())
    }
}

/// The link is lost with all that is in it, and another one takes over.
fn relink(one: &mut End, other: &mut End, seed: u64, capacity: usize, cut: usize) {
    let pipes = Pipe::pair(seed, capacity, cut);
    let consumed = (one.consumed(), other.consumed());
    for (end, pipe, from) in [(one, pipes.0, consumed.1), (other, pipes.1, consumed.0)] {
        let offered = Offered::starting(from);
        end.sender = SpanSender::new(pipe.clone(), from, offered.clone());
        end.receiver = SpanReceiver::new(pipe, offered);
        for (ring, position) in end.send.rings.iter().zip(from) {
            ring.release(position).unwrap();
        }
        for ring in &mut end.receive.rings {
            ring.forget_unconsumed();
            ring.resume(Arrival::Counted);
        }
    }
}

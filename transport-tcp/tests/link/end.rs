//! One end of a link under test, with the rings that a session would own.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use transport::frame::{Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{
    Link, LinkError, LinkMemory, Listener, Push, ReceiveLanes, SendLanes, SendMemory, Transport, Wire,
};
use transport::ring::Position;
use transport_tcp::Tcp;

pub(crate) const SIZES: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 64 << 10,
    large: 256 << 10,
};

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn accept(listener: &mut dyn Listener) -> Box<dyn Wire> {
    let deadline = soon();
    loop {
        if let Some(wire) = listener.accept().unwrap() {
            return wire;
        }
        assert!(Instant::now() < deadline, "nobody dialled");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Both ends of a fresh connection.
pub(crate) fn wires(tcp: &Tcp) -> (Box<dyn Wire>, Box<dyn Wire>) {
    let mut listener = tcp.listen("127.0.0.1:0").unwrap();
    let dialled = tcp.dial(&listener.address(), soon()).unwrap();
    (dialled, accept(&mut *listener))
}

pub(crate) struct End {
    pub(crate) send: SendLanes,
    pub(crate) receive: ReceiveLanes,
    pub(crate) link: Link,
}

impl End {
    /// Shakes hands as a session does, as far as links are concerned.
    pub(crate) fn start(mut wire: Box<dyn Wire>) -> End {
        let receive = wire.receive_memory(&SIZES).unwrap();
        let offer = wire.offer(&receive).unwrap();
        wire.send(&offer, soon()).unwrap();
        let offer = wire.receive(soon()).unwrap();
        let send = wire.send_memory(&SIZES, &offer).unwrap();
        let memory = LinkMemory {
            send: send.rings.clone(),
            receive: receive.clone(),
        };
        let link = wire.link(&memory, &offer, [0; LANES]).unwrap();
        End {
            send: SendLanes::new(
                SendMemory {
                    rings: send.rings,
                    cells: None,
                },
                Integrity::None,
            ),
            receive: ReceiveLanes::new(receive, Integrity::None, link.arrival),
            link,
        }
    }

    pub(crate) fn pair(tcp: &Tcp) -> (End, End) {
        let (dialled, accepted) = wires(tcp);
        std::thread::scope(|scope| {
            let accepted = scope.spawn(|| End::start(accepted));
            (End::start(dialled), accepted.join().unwrap())
        })
    }

    /// Commits a frame, if there is room.
    pub(crate) fn commit(&self, lane: Lane, body: &[u8]) -> Option<Position> {
        let mut claim = self.send.ring(lane).claim(body.len()).ok()?;
        claim.body().copy_from_slice(body);
        let position = claim.position();
        claim.commit(Kind::Message, 0, 0, 0);
        Some(position)
    }

    pub(crate) fn push(&mut self) -> Result<Push, LinkError> {
        self.link.sender.push(&self.send)
    }

    pub(crate) fn poll(&mut self) -> Result<bool, LinkError> {
        let changed = self.link.receiver.poll(&mut self.receive)?;
        for (ring, credit) in self.send.rings.iter().zip(self.receive.credit) {
            ring.release(credit).unwrap();
        }
        Ok(changed)
    }

    /// Polls until something has come.
    pub(crate) fn wait_for_news(&mut self) {
        let deadline = soon();
        while !self.poll().unwrap() {
            assert!(Instant::now() < deadline, "nothing comes");
            std::thread::yield_now();
        }
    }

    /// The next message of a lane: where it stands and what it says.
    pub(crate) fn take(&mut self, lane: Lane) -> Option<(Position, Vec<u8>)> {
        loop {
            let ring = self.receive.ring(lane);
            let frame = ring.peek().unwrap()?;
            let taken = (frame.position, frame.body.to_vec());
            let (kind, size) = (frame.header.kind, frame.header.size());
            ring.consume(size);
            self.send.acknowledge[lane.index()].store(ring.consumed(), Ordering::Release);
            if kind == Kind::Message {
                return Some(taken);
            }
        }
    }
}

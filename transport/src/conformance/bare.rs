//! Two ends of a bare link, with nothing of a node around them: each driven by hand, and told by a poller of its own.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Harness, PATIENCE};
use crate::frame::{Integrity, Kind};
use crate::lane::{LANES, Lane, LaneSizes};
use crate::link::{Link, LinkError, LinkMemory, Push, ReceiveLanes, SendLanes, SendMemory, Transport, Wire};

const SIZES: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 64 << 10,
    large: 256 << 10,
};

/// One end of a link, and the rings of its session.
pub(super) struct End {
    link: Link,
    pub(super) send: SendLanes,
    pub(super) receive: ReceiveLanes,
    poll: Poll,
    events: Events,
    /// The link is told what the poller tells, as where a runtime waits on its descriptors.
    is_told: bool,
    /// The poller has told something since the last turn: whether the other end had closed its end.
    news: Option<bool>,
    /// Nothing is to be done before the poller tells something.
    asleep: bool,
    /// The last push did not finish.
    blocked: bool,
}

/// Two ends of a new link; of each, whether it `is_told` what its poller tells.
pub(super) fn ends(harness: &dyn Harness, is_told: [bool; 2]) -> [End; 2] {
    let transport = harness.transport();
    let address = harness.address();
    let (_, address) = address.split_once("://").expect("an address with its scheme");
    let mut listener = transport.listen(address).expect("listens");
    let deadline = Instant::now() + PATIENCE;
    let address = listener.address();
    thread::scope(|scope| {
        let dialling = scope.spawn(|| {
            let wire = transport.dial(&address, deadline).expect("dials");
            End::new(wire, &*transport, is_told[0])
        });
        let wire = loop {
            match listener.accept().expect("accepts") {
                Some(wire) => break wire,
                None => thread::sleep(Duration::from_millis(1)),
            }
            assert!(Instant::now() < deadline, "nobody dialled");
        };
        let accepted = End::new(wire, &*transport, is_told[1]);
        [dialling.join().expect("one end"), accepted]
    })
}

impl End {
    fn new(mut wire: Box<dyn Wire>, transport: &dyn Transport, is_told: bool) -> End {
        let deadline = Instant::now() + PATIENCE;
        let integrity = match transport.needs_checksums() {
            true => Integrity::salted(0x5eed),
            false => Integrity::None,
        };
        let receive = wire.receive_memory(&SIZES).expect("memory");
        let offer = wire.offer(&receive).expect("an offer");
        wire.send(&offer, deadline).expect("sent");
        let offer = wire.receive(deadline).expect("the peer's offer");
        let SendMemory { rings, cells } = wire.send_memory(&SIZES, &offer).expect("memory");
        let memory = LinkMemory {
            send: rings.clone(),
            receive: receive.clone(),
        };
        let mut link = wire.link(&memory, &offer, [0; LANES]).expect("a link");
        // As a peer does: where both ends map the rings, a frame is whole when its first word is there.
        let integrity = if cells.is_some() {
            Integrity::None
        } else {
            integrity
        };
        let send = SendLanes::new(SendMemory { rings, cells }, integrity.clone());
        let mut receive = ReceiveLanes::new(receive, integrity, link.arrival);
        if let Some(cells) = link.cells.take() {
            receive.tell_in(cells);
        }
        let poll = Poll::new().expect("a poller");
        let interest = match link.receiver.polls_memory() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        for descriptor in link.receiver.descriptors() {
            let registry = poll.registry();
            registry
                .register(&mut SourceFd(&descriptor.as_raw_fd()), Token(0), interest)
                .expect("registered");
        }
        End {
            link,
            send,
            receive,
            poll,
            events: Events::with_capacity(16),
            is_told,
            news: None,
            asleep: false,
            blocked: false,
        }
    }

    /// Commits a frame, if there is room, and has it leave.
    pub(super) fn say(&mut self, lane: Lane, len: usize) {
        if let Ok(mut claim) = self.send.ring(lane).claim(len) {
            claim.body().fill(lane as u8 + 1);
            claim.commit(Kind::Message, 0, 0, 7);
        }
        match &self.link.doorbell {
            Some(bell) => bell.ring(),
            None => self.push().expect("a live link"),
        }
    }

    fn push(&mut self) -> Result<(), LinkError> {
        self.blocked = self.link.sender.push(&self.send)? == Push::Blocked;
        Ok(())
    }

    /// Asks the poller; whether it has told something that no turn has followed.
    fn hear(&mut self, timeout: Duration) -> bool {
        self.poll.poll(&mut self.events, Some(timeout)).expect("polled");
        for event in &self.events {
            self.news = Some(self.news.unwrap_or(false) || event.is_read_closed());
        }
        self.news.is_some()
    }

    /// A turn as a driver has it: takes in what has come, hands out at most `limit` frames of each lane, acknowledges what was
    /// consumed, now or once it is much.
    pub(super) fn turn(&mut self, limit: usize, acknowledges: bool) -> Result<(), LinkError> {
        self.asleep = false;
        if self.is_told {
            self.hear(Duration::ZERO);
        }
        if let Some(closed) = self.news.take()
            && self.is_told
        {
            self.link.receiver.told(closed);
        }
        self.link.receiver.poll(&mut self.receive)?;
        let mut due = false;
        for lane in Lane::ALL {
            let credit = self.receive.credit[lane.index()];
            self.send
                .ring(lane)
                .release(credit)
                .expect("no more than was sent");
            let ring = self.receive.ring(lane);
            for _ in 0..limit {
                let Some(frame) = ring.peek().expect("a frame") else {
                    break;
                };
                let size = frame.header.size();
                ring.consume(size);
            }
            let untold = ring.consumed() - self.send.acknowledged(lane);
            if untold > 0 && (acknowledges || untold >= ring.capacity() / 4) {
                self.send.acknowledge[lane.index()].store(ring.consumed(), Ordering::Release);
                due = true;
            }
        }
        match due || self.blocked {
            true => self.push(),
            false => Ok(()),
        }
    }

    /// Arms the link; whether it sleeps now.
    pub(super) fn arm(&mut self) -> Result<bool, LinkError> {
        let armed = self.link.receiver.arm(&self.receive)?;
        // What a runtime has told meanwhile is not told again.
        self.asleep = armed && !self.blocked && !(self.is_told && self.hear(Duration::ZERO));
        Ok(self.asleep)
    }

    /// Sleeps until the poller tells something, for no longer than `timeout`. Whether there is something to do.
    pub(super) fn wakes(&mut self, timeout: Duration) -> bool {
        !self.asleep || self.hear(timeout)
    }

    /// Whether it has taken in all that `other` has said, and acknowledged.
    pub(super) fn knows_all_of(&self, other: &End) -> bool {
        Lane::ALL.into_iter().all(|lane| {
            let at = lane.index();
            self.receive.rings[at].consumed() == other.send.ring(lane).claimed()
                && self.receive.credit[at] >= other.send.acknowledged(lane)
        })
    }
}

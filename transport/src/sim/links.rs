//! The simulated transport: an ordinary implementation of the contract in `link`, over the connections of the world.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Instant;

use super::connection::{Cargo, Connection, Landed, Landing, Medium};
use super::world::{SharedWorld, World};
use crate::lane::{LANES, Lane, LaneSizes};
use crate::link::{
    Ends, HangUp, LaneMemory, Link, LinkError, LinkMemory, LinkReceiver, LinkSender, Listener, Push,
    ReceiveLanes, SendLanes, SendMemory, Transport, TransportError, Wire, lanes_in,
};
use crate::memory::RingMemory;
use crate::random::Random;
use crate::ring::{Arrival, Position};
use crate::wait::lock;

/// Links over the simulated network.
pub(super) struct SimTransport {
    pub(super) world: SharedWorld,
    pub(super) host: usize,
    pub(super) medium: Medium,
}

pub(super) const fn scheme(medium: Medium) -> &'static str {
    match medium {
        Medium::Stream => "stream",
        Medium::Writes => "writes",
    }
}

impl Transport for SimTransport {
    fn scheme(&self) -> &'static str {
        scheme(self.medium)
    }

    fn needs_checksums(&self) -> bool {
        self.medium == Medium::Writes
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        let address = format!("{}://{address}", self.scheme());
        lock(&self.world).listening.entry(address.clone()).or_default();
        Ok(Box::new(SimListener {
            world: self.world.clone(),
            host: self.host,
            medium: self.medium,
            address,
        }))
    }

    fn dial(&self, address: &str, _: Instant) -> Result<Box<dyn Wire>, TransportError> {
        let address = format!("{}://{address}", self.scheme());
        match lock(&self.world).open(self.medium, self.host, &address) {
            Ok(number) => Ok(Box::new(SimWire(Handle::new(&self.world, number, 0)))),
            Err(why) => Err(TransportError::Unreachable {
                address,
                source: why.into(),
            }),
        }
    }
}

struct SimListener {
    world: SharedWorld,
    host: usize,
    medium: Medium,
    address: String,
}

impl Listener for SimListener {
    fn address(&self) -> String {
        let (_, rest) = self.address.split_once("://").unwrap_or_default();
        rest.to_owned()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        let number = lock(&self.world).accept(self.host, &self.address);
        Ok(number.map(|number| Box::new(SimWire(Handle::new(&self.world, number, 1))) as Box<dyn Wire>))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // The poller wants one; nothing ever comes out of it, and nobody sleeps.
        type Pipe = (std::io::PipeReader, std::io::PipeWriter);
        static NEVER_READABLE: [OnceLock<Pipe>; 2] = [OnceLock::new(), OnceLock::new()];
        let pipe = &NEVER_READABLE[self.medium as usize];
        let (reader, _) = pipe.get_or_init(|| std::io::pipe().expect("a pipe"));
        reader.as_fd()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        for (_, number) in world.listening.remove(&self.address).unwrap_or_default() {
            if let Some(connection) = world.connections.get_mut(&number) {
                connection.ends[1].left = true;
            }
        }
    }
}

/// One end of a connection. Dropped, the end has let go.
struct Handle {
    world: SharedWorld,
    number: usize,
    end: usize,
}

impl Handle {
    fn new(world: &SharedWorld, number: usize, end: usize) -> Handle {
        Handle {
            world: world.clone(),
            number,
            end,
        }
    }

    /// Works on the connection, unless it is over for this end.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection, &mut Random, super::Moment) -> T,
    ) -> Result<T, LinkError> {
        let mut world: MutexGuard<'_, World> = lock(&self.world);
        let world = &mut *world;
        let cut_off = match world.connections.get(&self.number) {
            Some(connection) => world.is_cut_off(connection),
            None => return Err(LinkError::Closed),
        };
        let moment = super::Moment {
            now: world.now,
            cut_off,
            blocked: world.faults.blocked,
        };
        match world.connections.get_mut(&self.number) {
            Some(connection) => Ok(work(connection, &mut world.random, moment)),
            None => Err(LinkError::Closed),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let end = self.end;
        let _ = self.with(|connection, _, _| {
            let end = &mut connection.ends[end];
            end.left = true;
            (end.rings, end.unmapped) = (None, true);
        });
    }
}

/// A connection that still shakes hands. Nothing about it blocks: `receive` says that it would.
struct SimWire(Handle);

impl Wire for SimWire {
    fn peer(&self) -> String {
        format!("connection {}", self.0.number)
    }

    fn ends(&self) -> Option<Ends> {
        let (number, end) = (self.0.number, self.0.end);
        let ends = self.0.with(|connection, _, _| {
            let (_, listener) = connection.address.split_once("://").unwrap_or_default();
            let dialer = match connection.in_between && end == 1 {
                true => format!("in between {number}"),
                false => format!("dialer {number}"),
            };
            let (own, peer) = match end {
                0 => (dialer, listener.to_owned()),
                _ => (listener.to_owned(), dialer),
            };
            Ends { own, peer }
        });
        ends.ok()
    }

    fn hang_up(&self) -> Option<HangUp> {
        let (world, number) = (self.0.world.clone(), self.0.number);
        Some(Box::new(move |_| {
            lock(&world).kill(number, super::connection::Death::Told)
        }))
    }

    fn send(&mut self, message: &[u8], _: Instant) -> Result<(), LinkError> {
        let end = self.0.end;
        self.0.with(|connection, random, moment| {
            if connection.is_over_for(end) {
                return Err(LinkError::Closed);
            }
            if connection.carries(message.len()) {
                connection.dispatch(end, moment.now, Cargo::Message(message.to_vec()), random);
                connection.die_of_fuse(random);
            }
            Ok(())
        })?
    }

    fn receive(&mut self, _: Instant) -> Result<Vec<u8>, LinkError> {
        let end = self.0.end;
        self.0.with(|connection, _, moment| {
            let over = connection.is_over_for(end);
            let incoming = &mut connection.ends[end].incoming;
            match incoming.front() {
                Some(parcel) if parcel.at <= moment.now && !moment.cut_off => match incoming.pop_front() {
                    Some(parcel) => match parcel.cargo {
                        Cargo::Message(message) => Ok(message),
                        _ => Err(LinkError::Protocol("ring bytes during the handshake".into())),
                    },
                    None => Err(LinkError::Closed),
                },
                None if over => Err(LinkError::Closed),
                _ => Err(LinkError::Io(std::io::ErrorKind::WouldBlock.into())),
            }
        })?
    }

    fn receive_memory(&mut self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        lanes_in_one(sizes)
    }

    fn send_memory(&mut self, sizes: &LaneSizes, _: &[u8]) -> Result<SendMemory, LinkError> {
        Ok(SendMemory {
            rings: lanes_in_one(sizes)?,
            cells: None,
        })
    }

    fn offer(&mut self, _: &LaneMemory) -> Result<Vec<u8>, LinkError> {
        Ok(vec![1])
    }

    fn link(
        self: Box<Self>,
        memory: &LinkMemory,
        _: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError> {
        let handle = Arc::new(self.0);
        let medium = handle.with(|connection, _, _| {
            let end = &mut connection.ends[handle.end];
            end.rings = Some(memory.receive.clone());
            connection.medium
        })?;
        Ok(Link {
            sender: Box::new(SimSender {
                handle: handle.clone(),
                gathers: medium == Medium::Writes,
                pushed: from,
                frontier: from,
                told: [0; LANES],
            }),
            description: format!("connection {}", handle.number),
            receiver: Box::new(SimReceiver { handle }),
            arrival: match medium {
                Medium::Stream => Arrival::Counted,
                Medium::Writes => Arrival::Checked,
            },
            doorbell: None,
            cells: None,
        })
    }
}

/// The rings of all lanes in one mapping: there are a great many histories.
fn lanes_in_one(sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
    Ok(lanes_in(&RingMemory::anonymous(sizes.total())?, sizes))
}

struct SimSender {
    handle: Arc<Handle>,
    /// One-sided writes take payloads from where they were written.
    gathers: bool,
    /// What has been given to the network, at any byte.
    pushed: [Position; LANES],
    /// What was committed at the last look: where a frame ends.
    frontier: [Position; LANES],
    told: [Position; LANES],
}

/// Most bytes that one span or one-sided write carries.
const LONGEST_SPAN: u64 = 3_000;

impl LinkSender for SimSender {
    fn gathers(&self) -> bool {
        self.gathers
    }

    fn push(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        let end = self.handle.end;
        let handle = self.handle.clone();
        handle.with(|connection, random, moment| {
            if connection.is_over_for(end) {
                return Err(LinkError::Closed);
            }
            if random.one_in(moment.blocked) {
                return Ok(Push::Blocked);
            }
            for lane in Lane::ALL {
                self.tell(connection, lane, lanes, random, moment.now);
            }
            for lane in Lane::ALL {
                if self.push_lane(connection, lane, lanes, random, moment.now) == Push::Blocked {
                    return Ok(Push::Blocked);
                }
            }
            Ok(Push::Done)
        })?
    }
}

impl SimSender {
    fn tell(
        &mut self,
        connection: &mut Connection,
        lane: Lane,
        lanes: &SendLanes,
        random: &mut Random,
        now: crate::session::Time,
    ) {
        let (position, index) = (lanes.acknowledged(lane), lane.index());
        if position <= self.told[index] {
            return;
        }
        self.told[index] = position;
        if !connection.carries(16) || connection.mute {
            return;
        }
        match connection.medium {
            Medium::Stream => {
                let lane = index;
                connection.dispatch(self.handle.end, now, Cargo::Credit { lane, position }, random);
            }
            Medium::Writes => {
                let at = now + random.micros(connection.latency);
                connection.ends[1 - self.handle.end].landing.push(Landing {
                    at,
                    lane: index,
                    what: Landed::Credit(position),
                });
            }
        }
    }

    fn push_lane(
        &mut self,
        connection: &mut Connection,
        lane: Lane,
        lanes: &SendLanes,
        random: &mut Random,
        now: crate::session::Time,
    ) -> Push {
        let index = lane.index();
        let ring = lanes.ring(lane);
        loop {
            // Control has room of its own, as every link keeps it.
            let room = match lane {
                Lane::Control => u64::MAX,
                _ => connection
                    .room
                    .saturating_sub(connection.under_way(self.handle.end)) as u64,
            };
            // What ends a write in zeroes is not sent: the peer's ring is zero there.
            let (mut content_end, mut lent) = (Position::MAX, None);
            if self.pushed[index] == self.frontier[index] {
                self.frontier[index] = match connection.medium {
                    Medium::Stream => ring.committed(self.pushed[index], LONGEST_SPAN),
                    Medium::Writes => {
                        let gathered = ring.gathered_piece(self.pushed[index], LONGEST_SPAN);
                        content_end = gathered.piece.content_end;
                        lent = gathered.lent;
                        gathered.piece.end
                    }
                };
            }
            let left = self.frontier[index] - self.pushed[index];
            if left == 0 {
                return Push::Done;
            }
            if room == 0 {
                if connection.medium == Medium::Writes {
                    self.frontier[index] = self.pushed[index];
                }
                return Push::Blocked;
            }
            let from = self.pushed[index];
            // Writes take whole frames at once: see rule 9 of the contract.
            let to = match connection.medium {
                Medium::Stream => from + left.min(room),
                Medium::Writes => from + left,
            };
            self.pushed[index] = to;
            let mut bytes = ring.span(from, to.min(content_end)).concat();
            if let Some((head, part)) = lent {
                bytes.truncate(head);
                bytes.extend_from_slice(part.bytes());
            }
            if !connection.carries(bytes.len()) || connection.mute {
                continue;
            }
            let (lane, position, end) = (index, from, self.handle.end);
            match connection.medium {
                Medium::Stream => connection.dispatch(
                    end,
                    now,
                    Cargo::Bytes {
                        lane,
                        position,
                        bytes,
                    },
                    random,
                ),
                Medium::Writes => {
                    let ring = (lane, ring.capacity());
                    connection.write(end, now, ring, (position, to), &bytes, random);
                }
            }
            connection.die_of_fuse(random);
        }
    }
}

struct SimReceiver {
    handle: Arc<Handle>,
}

impl Drop for SimReceiver {
    fn drop(&mut self) {
        let end = self.handle.end;
        // From here on nothing is written into the rings.
        let _ = self.handle.with(|connection, _, _| {
            let end = &mut connection.ends[end];
            (end.rings, end.unmapped) = (None, true);
        });
    }
}

impl LinkReceiver for SimReceiver {
    fn poll(&mut self, lanes: &mut ReceiveLanes) -> Result<bool, LinkError> {
        let end = self.handle.end;
        self.handle.with(|connection, random, moment| {
            let over = connection.is_over_for(end);
            let medium = connection.medium;
            let this = &mut connection.ends[end];
            match medium {
                Medium::Writes => {
                    let moved = std::mem::take(&mut this.moved);
                    lanes.credit = this.credit;
                    let large = lanes.ring(Lane::Large);
                    large.advance(this.noticed.saturating_sub(large.arrived()) as usize);
                    // A device says that it failed whatever else is under way.
                    if over && !moved {
                        return Err(LinkError::Device("the queue pair is in error".into()));
                    }
                    Ok(moved)
                }
                Medium::Stream => {
                    let mut moved = false;
                    while let Some(parcel) = this.incoming.front_mut() {
                        if parcel.at > moment.now || moment.cut_off {
                            return Ok(moved);
                        }
                        moved = true;
                        match &mut parcel.cargo {
                            Cargo::Message(_) => {
                                return Err(LinkError::Protocol("a handshake message on a link".into()));
                            }
                            Cargo::Credit { lane, position } => {
                                lanes.credit[*lane] = lanes.credit[*lane].max(*position);
                            }
                            Cargo::Bytes {
                                lane,
                                position,
                                bytes,
                            } => {
                                // Sometimes there is only a part as yet.
                                let now = match random.below(4) {
                                    0 => random.below(bytes.len() as u64 + 1) as usize,
                                    _ => bytes.len(),
                                };
                                put(&mut lanes.rings[*lane], *position, &bytes[..now]);
                                if now < bytes.len() {
                                    bytes.drain(..now);
                                    *position += now as u64;
                                    return Ok(true);
                                }
                            }
                        }
                        this.incoming.pop_front();
                    }
                    if over { Err(LinkError::Closed) } else { Ok(moved) }
                }
            }
        })?
    }

    fn arm(&mut self, _: &ReceiveLanes) -> Result<bool, LinkError> {
        Ok(false)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn polls_memory(&self) -> bool {
        true
    }
}

/// Puts stream bytes into a ring.
fn put(ring: &mut crate::ring::ReceiveRing, position: Position, mut bytes: &[u8]) {
    assert_eq!(
        position,
        ring.arrived(),
        "a stream goes on where it did not leave off"
    );
    while !bytes.is_empty() {
        let room = ring.writable();
        let len = room.len().min(bytes.len());
        assert!(len > 0, "the sender goes beyond its credit");
        room[..len].copy_from_slice(&bytes[..len]);
        ring.advance(len);
        bytes = &bytes[len..];
    }
}

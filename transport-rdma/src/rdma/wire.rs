//! The handshake over TCP, each message after its length (u32, little-endian), and the step to a queue pair.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use transport::host::{self, source_of};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{
    Ends, HangUp, LaneMemory, Link, LinkError, LinkMemory, MAX_HANDSHAKE, SendMemory, Wire, anonymous_lanes,
    lanes_in,
};
use transport::memory::{Pages, RingMemory};
use transport::ring::{Arrival, Position};

use super::SmallFrames;
use super::anchor::{Anchor, socket_error};
use super::offer::Offer;
use crate::fabric::verbs::cells;
use crate::fabric::verbs::device::{Device, OnDemand};
use crate::fabric::verbs::prepared::Prepared;
use crate::fabric::verbs::{VerbsInbound, VerbsOutbound};
use crate::limits::verbs::DEVICE_LOOKS;
use crate::link::{Receiver, Sender};

/// A connected socket, and after the offer a queue pair that waits for the peer's.
pub(super) struct RdmaWire {
    device: Arc<OnDemand>,
    /// The device, once it is needed.
    opened: Option<Arc<Device>>,
    stream: TcpStream,
    peer: SocketAddr,
    prepared: Option<Prepared>,
}

impl RdmaWire {
    pub(super) fn new(device: Arc<OnDemand>, stream: TcpStream, peer: SocketAddr) -> io::Result<RdmaWire> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(RdmaWire {
            device,
            opened: None,
            stream,
            peer,
            prepared: None,
        })
    }

    /// The same wire, with the device that it is going to use.
    pub(super) fn on(self, device: Arc<Device>) -> RdmaWire {
        RdmaWire {
            opened: Some(device),
            ..self
        }
    }

    /// Memory for the rings of one direction.
    fn rings(&self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        check_sizes(sizes)?;
        if self.device.options().huge_pages {
            Ok(lanes_in(&RingMemory::huge(sizes.total())?, sizes))
        } else {
            anonymous_lanes(sizes)
        }
    }

    /// Waits until the socket is ready, or for a while: then the caller tries again. The peer's end counts as ready.
    fn wait(&self, for_what: PollFlags, deadline: Instant) -> Result<(), LinkError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::TimedOut);
        }
        // Whoever removes the device waits for this handshake too.
        let left = match &self.opened {
            Some(device) => {
                device.check()?;
                left.min(DEVICE_LOOKS)
            }
            None => left,
        };
        let timeout = Timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.stream, for_what)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(LinkError::Io(error.into())),
        }
    }

    fn write_all(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, deadline)?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(socket_error(error)),
            }
        }
        Ok(())
    }

    /// Reads exactly so many bytes: what follows them belongs to whoever reads next.
    fn read_exact(&mut self, bytes: &mut [u8], deadline: Instant) -> Result<(), LinkError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, deadline)?
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(socket_error(error)),
            }
            // A peer that sends a byte at a time does not stretch the deadline.
            if filled < bytes.len() && Instant::now() >= deadline {
                return Err(LinkError::TimedOut);
            }
        }
        Ok(())
    }
}

/// A message with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut packet = (message.len() as u32).to_le_bytes().to_vec();
    packet.extend_from_slice(message);
    packet
}

impl Wire for RdmaWire {
    fn peer(&self) -> String {
        self.peer.to_string()
    }

    fn source(&self) -> String {
        source_of(self.peer.ip())
    }

    fn ends(&self) -> Option<Ends> {
        host::ends(self.stream.local_addr().ok()?, self.peer)
    }

    fn hang_up(&self) -> Option<HangUp> {
        let stream = self.stream.try_clone().ok()?;
        Some(Box::new(move |last_word| {
            // What does not fit at once is lost with the rest.
            let _ = (&stream).write(&framed(last_word));
            // Fails only where the connection is over already.
            let _ = stream.shutdown(Shutdown::Both);
        }))
    }

    fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), LinkError> {
        if message.len() > MAX_HANDSHAKE {
            return Err(LinkError::Protocol(format!(
                "a handshake message of {} bytes, at most {MAX_HANDSHAKE} are allowed",
                message.len()
            )));
        }
        self.write_all(&framed(message), deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let mut len = [0; 4];
        self.read_exact(&mut len, deadline)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_HANDSHAKE {
            return Err(LinkError::Protocol(format!(
                "a handshake message of {len} bytes, at most {MAX_HANDSHAKE} are allowed"
            )));
        }
        let mut message = vec![0; len];
        self.read_exact(&mut message, deadline)?;
        Ok(message)
    }

    fn receive_memory(&mut self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        self.rings(sizes)
    }

    fn offer(&mut self, receive: &LaneMemory) -> Result<Vec<u8>, LinkError> {
        let device = match self.opened.take() {
            Some(device) => device,
            None => (self.device.device()).map_err(|error| LinkError::Device(error.to_string()))?,
        };
        let prepared = Prepared::new(&device, receive)?;
        let offer = prepared.offer().encode();
        (self.opened, self.prepared) = (Some(device), Some(prepared));
        Ok(offer)
    }

    fn send_memory(&mut self, sizes: &LaneSizes, offer: &[u8]) -> Result<SendMemory, LinkError> {
        Offer::decode(offer)?.check_sizes(sizes, cells::PAGE)?;
        Ok(SendMemory {
            rings: self.rings(sizes)?,
            cells: None,
        })
    }

    fn link(
        mut self: Box<Self>,
        memory: &LinkMemory,
        offer: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError> {
        let (Some(device), Some(prepared)) = (self.opened.take(), self.prepared.take()) else {
            return Err(LinkError::Device(
                "a link was asked for before an offer was made".into(),
            ));
        };
        let offer = Offer::decode(offer)?;
        let len = |lane: Lane| memory.send[lane.index()].len() as u32;
        let sizes = LaneSizes {
            control: len(Lane::Control),
            ordinary: len(Lane::Ordinary),
            large: len(Lane::Large),
        };
        offer.check_sizes(&sizes, cells::PAGE)?;
        let arrival = match device.small_frames {
            SmallFrames::Polled => Arrival::Checked,
            SmallFrames::Announced => Arrival::Noticed,
        };
        let (connection, receives) = prepared.connect(&memory.send, offer)?;
        let anchor = Arc::new(Anchor::new(self.stream)?);
        let mut description = format!("RDMA with {} on {}", self.peer, connection.description());
        if (memory.send.iter().chain(&memory.receive)).all(|ring| ring.pages() == Pages::Huge) {
            description.push_str(", rings on huge pages");
        }
        let outbound = VerbsOutbound::new(connection.clone(), anchor.clone());
        let inbound = VerbsInbound::new(connection, receives, anchor)?;
        Ok(Link {
            sender: Box::new(Sender::new(outbound, from)),
            receiver: Box::new(Receiver::new(inbound)),
            arrival,
            doorbell: None,
            cells: None,
            description,
        })
    }
}

fn check_sizes(sizes: &LaneSizes) -> Result<(), LinkError> {
    if sizes.are_valid() {
        return Ok(());
    }
    Err(LinkError::Protocol(format!(
        "{sizes:?}: each must be a power of two from 4 KiB to 1 GiB"
    )))
}

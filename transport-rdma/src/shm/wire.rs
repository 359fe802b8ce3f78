//! The handshake over the socket, one packet a message, and the step to a link.
//!
//! A packet starts with a byte that says what it is, so that an empty message and the end of the connection differ,
//! and a wake-up of a peer that is already linked is no message. The memory's descriptor travels with the first
//! message after the offer.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg, shutdown, sockopt,
};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{HangUp, LaneMemory, Link, LinkError, LinkMemory, MAX_HANDSHAKE, SendMemory, Wire};
use transport::ring::{Arrival, Position};

use crate::fabric::shm::segment::Segment;
use crate::fabric::shm::{Anchor, Bell, ShmInbound, ShmOutbound, WAKE, socket_error};
use crate::link::{Receiver, Sender};

/// First byte of a packet that carries a handshake message.
const MESSAGE: u8 = b'm';
/// First byte of an offer. 2 is rings that their sender zeroes; 1 was rings that their receiver zeroes.
const OFFER_VERSION: u8 = 2;
/// Bytes of an offer: version, three zero bytes, three capacities.
const OFFER: usize = 16;

/// A connected socket.
pub(super) struct ShmWire {
    socket: OwnedFd,
    peer: String,
    /// The memory that travels with the next message.
    outgoing: Option<OwnedFd>,
    /// The memory that came with a message.
    incoming: Option<OwnedFd>,
    /// It came, and this process had no descriptor left for it.
    was_turned_away: bool,
}

impl ShmWire {
    pub(super) fn new(socket: OwnedFd, address: &str) -> ShmWire {
        let peer = match sockopt::socket_peercred(&socket) {
            Ok(who) => format!("process {} at {address}", who.pid.as_raw_nonzero()),
            Err(_) => address.to_owned(),
        };
        ShmWire {
            socket,
            peer,
            outgoing: None,
            incoming: None,
            was_turned_away: false,
        }
    }

    /// Waits until the socket is ready; the peer's end counts as ready.
    fn wait(&self, for_what: PollFlags, deadline: Instant) -> Result<(), LinkError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::TimedOut);
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.socket, for_what)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(socket_error(error)),
        }
    }

    /// Receives one packet into `buffer` and keeps the descriptor that came with it.
    fn receive_packet(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, LinkError> {
        let mut was_reset = false;
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
            // Taken in any case: what is not kept is closed.
            let mut came = None;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                    came = descriptors.next().or(came);
                }
            }
            // See unix(7): what finds no descriptor in the receiving process is cut off.
            let cut_off = received
                .as_ref()
                .is_ok_and(|packet| packet.flags.contains(ReturnFlags::CTRUNC));
            self.was_turned_away |= cut_off && came.is_none();
            self.incoming = came.or(self.incoming.take());
            match received {
                Ok(packet) if packet.bytes == 0 => return Err(LinkError::Closed),
                Ok(packet) if packet.flags.contains(ReturnFlags::TRUNC) => {
                    return Err(LinkError::Protocol(format!(
                        "a handshake message of more than {MAX_HANDSHAKE} bytes"
                    )));
                }
                Ok(packet) => return Ok(packet.bytes),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, deadline)?,
                Err(Errno::INTR) => {}
                // Said once, and before what the peer said last, which is there still.
                Err(Errno::CONNRESET) if !was_reset => was_reset = true,
                Err(error) => return Err(socket_error(error)),
            }
        }
    }

    /// The memory that came with the peer's offer.
    fn take_memory(&mut self) -> Result<OwnedFd, LinkError> {
        match self.incoming.take() {
            Some(file) => Ok(file),
            None if self.was_turned_away => Err(LinkError::Device(
                "this process has no descriptor left for the peer's shared memory: raise its limit (ulimit -n)"
                    .into(),
            )),
            None => Err(LinkError::Protocol(
                "the peer's offer came without its shared memory".into(),
            )),
        }
    }
}

impl Wire for ShmWire {
    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn hang_up(&self) -> Option<HangUp> {
        let socket = self.socket.try_clone().ok()?;
        Some(Box::new(move |last_word| {
            let packet = [IoSlice::new(&[MESSAGE]), IoSlice::new(last_word)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // What does not fit at once is lost with the rest; the rest fails only where the connection is over already.
            let _ = sendmsg(&socket, &packet, &mut SendAncillaryBuffer::default(), flags);
            let _ = shutdown(&socket, Shutdown::Both);
        }))
    }

    fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), LinkError> {
        if message.len() > MAX_HANDSHAKE {
            return Err(LinkError::Protocol(format!(
                "a handshake message of {} bytes, at most {MAX_HANDSHAKE} are allowed",
                message.len()
            )));
        }
        let descriptors: Vec<_> = self.outgoing.iter().map(AsFd::as_fd).collect();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let packet = [IoSlice::new(&[MESSAGE]), IoSlice::new(message)];
            match sendmsg(
                &self.socket,
                &packet,
                &mut control,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(_) => break,
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(socket_error(error)),
            }
        }
        drop(descriptors);
        self.outgoing = None;
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let mut buffer = vec![0; 1 + MAX_HANDSHAKE];
        loop {
            let len = self.receive_packet(&mut buffer, deadline)?;
            match buffer[0] {
                MESSAGE => {
                    buffer.truncate(len);
                    buffer.remove(0);
                    return Ok(buffer);
                }
                WAKE if Instant::now() < deadline => {}
                WAKE => return Err(LinkError::TimedOut),
                other => return Err(LinkError::Protocol(format!("a packet of unknown kind {other}"))),
            }
        }
    }

    fn receive_memory(&mut self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        check_sizes(sizes)?;
        Ok(Segment::create(sizes)?.rings())
    }

    fn offer(&mut self, receive: &LaneMemory) -> Result<Vec<u8>, LinkError> {
        let segment = Segment::of(receive).ok_or_else(began_elsewhere)?;
        let file = segment.file().try_clone_to_owned()?;
        self.outgoing = Some(file);
        Ok(encode(segment.sizes()))
    }

    fn send_memory(&mut self, sizes: &LaneSizes, offer: &[u8]) -> Result<SendMemory, LinkError> {
        check_sizes(sizes)?;
        let offered = decode(offer)?;
        if offered != *sizes {
            return Err(LinkError::Protocol(format!(
                "the peer's rings are {offered:?}, agreed were {sizes:?}"
            )));
        }
        let segment = Segment::open(self.take_memory()?, sizes)?;
        Ok(SendMemory {
            rings: segment.rings(),
            cells: Some(segment.cells()),
        })
    }

    fn link(
        mut self: Box<Self>,
        memory: &LinkMemory,
        offer: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError> {
        let own = Segment::of(&memory.receive).ok_or_else(began_elsewhere)?;
        let peer = Segment::of(&memory.send).ok_or_else(began_elsewhere)?;
        if decode(offer)? != *peer.sizes() {
            return Err(LinkError::Protocol(
                "the peer's offer is of other rings than the session's".into(),
            ));
        }
        // A later link of the same session: the peer must still mean the memory that is mapped.
        if let Some(file) = self.incoming.take()
            && !peer.is_behind(file.as_fd())
        {
            return Err(LinkError::Protocol(
                "the peer offers other memory than the session's".into(),
            ));
        }
        let anchor = Arc::new(Anchor::new(self.socket));
        let bell = Arc::new(Bell::new(&peer, anchor.clone()));
        Ok(Link {
            sender: Box::new(Sender::new(ShmOutbound::new(&own, bell.clone()), from)),
            receiver: Box::new(Receiver::new(ShmInbound::new(&own, &peer, anchor))),
            arrival: Arrival::Published,
            doorbell: Some(bell),
            cells: Some(own.cells()),
            description: format!(
                "shared memory with {}: rings of {} KiB, a frame is seen when its first word is stored",
                self.peer,
                own.sizes().total() / 1024
            ),
        })
    }
}

fn began_elsewhere() -> LinkError {
    LinkError::Device(
        "this session's rings are not shared memory: shm carries only sessions that began on it, start a new one"
            .into(),
    )
}

fn check_sizes(sizes: &LaneSizes) -> Result<(), LinkError> {
    if sizes.are_valid() {
        return Ok(());
    }
    Err(LinkError::Protocol(format!(
        "{sizes:?}: each must be a power of two from 4 KiB to 1 GiB"
    )))
}

fn encode(sizes: &LaneSizes) -> Vec<u8> {
    let mut offer = vec![OFFER_VERSION, 0, 0, 0];
    for lane in Lane::ALL {
        offer.extend_from_slice(&sizes.of(lane).to_le_bytes());
    }
    offer
}

fn decode(offer: &[u8]) -> Result<LaneSizes, LinkError> {
    let offer: &[u8; OFFER] = offer.try_into().map_err(|_| {
        LinkError::Protocol(format!(
            "an offer of {} bytes, shared memory's has {OFFER}: the peer offers another transport or version",
            offer.len()
        ))
    })?;
    let [head, control, ordinary, large] = std::array::from_fn(|n| {
        u32::from_le_bytes([offer[4 * n], offer[4 * n + 1], offer[4 * n + 2], offer[4 * n + 3]])
    });
    let sizes = LaneSizes {
        control,
        ordinary,
        large,
    };
    if head != u32::from(OFFER_VERSION) {
        return Err(LinkError::Protocol(format!(
            "an offer of version {head:#x}, known is {OFFER_VERSION}"
        )));
    }
    check_sizes(&sizes)?;
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_survives_the_way_and_anything_else_is_refused() {
        let sizes = LaneSizes::default();
        let offer = encode(&sizes);
        assert_eq!(decode(&offer).unwrap(), sizes);
        for len in 0..OFFER {
            assert!(decode(&offer[..len]).is_err());
        }
        for byte in 0..OFFER {
            for bit in 0..8 {
                let mut broken = offer.clone();
                broken[byte] ^= 1 << bit;
                assert!(decode(&broken).is_err(), "byte {byte} bit {bit}");
            }
        }
    }
}

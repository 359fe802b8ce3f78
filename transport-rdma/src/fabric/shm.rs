//! Shared memory between two processes of one host: the rings of one end are the rings of the other.
//!
//! A committed frame is visible to the peer by the store that commits it; there is nothing to carry. What remains is
//! to publish what was consumed, and to wake a peer that sleeps.
//!
//! # No wake-up is lost
//!
//! The receiver announces its sleep in a word of the segment, then looks at its rings and cells once more; the sender
//! stores a frame (or a consumed position), then looks at the word: [`transport::doze`], which is model-checked. What
//! wakes is one byte on the socket, which stays readable until the receiver has read it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use transport::doze;
use transport::lane::{LANES, Lane};
use transport::link::{Doorbell, LaneMemory, LinkError};
use transport::memory::RingMemory;
use transport::ring::{ACKNOWLEDGED, Position};

use super::{Inbound, Outbound, Request};
use crate::limits::POLLS_BETWEEN_INSPECTIONS;

pub(crate) mod segment;

use segment::Segment;

/// First byte of a packet that only wakes.
pub(crate) const WAKE: u8 = b'w';

/// The socket that stays open for as long as the link lives: it wakes, and it ends when the peer's process does.
#[derive(Debug)]
pub(crate) struct Anchor {
    socket: OwnedFd,
    dead: AtomicBool,
}

impl Anchor {
    pub(crate) fn new(socket: OwnedFd) -> Anchor {
        Anchor {
            socket,
            dead: AtomicBool::new(false),
        }
    }

    /// Sends a byte. A full socket is as good: then there is a byte already.
    fn wake(&self) {
        match send(&self.socket, &[WAKE], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.dead.store(true, Ordering::Relaxed),
        }
    }

    /// Reads wake-ups away, but no more of them than a peer can be owed at once.
    fn drain(&self) -> Result<(), LinkError> {
        const AT_ONCE: usize = 16;
        let mut bytes = [0u8; 64];
        for _ in 0..AT_ONCE {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.fail(LinkError::Closed),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::CONNRESET) => return self.fail(LinkError::Closed),
                Err(error) => return self.fail(LinkError::Io(error.into())),
            }
        }
        self.check()
    }

    fn fail(&self, error: LinkError) -> Result<(), LinkError> {
        self.dead.store(true, Ordering::Relaxed);
        Err(error)
    }

    fn check(&self) -> Result<(), LinkError> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(LinkError::Closed);
        }
        Ok(())
    }
}

/// Wakes the peer that reads what was committed.
#[derive(Debug)]
pub(crate) struct Bell {
    sleeping: RingMemory,
    anchor: Arc<Anchor>,
}

impl Bell {
    pub(crate) fn new(peer: &Segment, anchor: Arc<Anchor>) -> Bell {
        Bell {
            sleeping: peer.sleeping(),
            anchor,
        }
    }
}

impl Doorbell for Bell {
    #[inline]
    fn ring(&self) {
        if doze::must_wake(self.sleeping.word(0)) {
            self.anchor.wake();
        }
    }
}

/// The sending half.
pub(crate) struct ShmOutbound {
    /// This side's consumed positions, in the segment that it receives in.
    cells: LaneMemory,
    bell: Arc<Bell>,
}

impl ShmOutbound {
    pub(crate) fn new(own: &Segment, bell: Arc<Bell>) -> ShmOutbound {
        ShmOutbound {
            cells: own.cells(),
            bell,
        }
    }
}

impl Outbound for ShmOutbound {
    const CARRIES: bool = false;
    const GATHERS: bool = false;

    fn post(&mut self, requests: &[Request]) -> Result<usize, LinkError> {
        self.bell.anchor.check()?;
        for request in requests {
            if let Request::Acknowledge { lane, position } = *request {
                // Release: what was read below it was read before the sender zeroes it.
                self.cells[lane.index()]
                    .word(ACKNOWLEDGED)
                    .store(position, Ordering::Release);
            }
        }
        self.bell.ring();
        Ok(requests.len())
    }
}

/// The receiving half.
pub(crate) struct ShmInbound {
    /// The peer's consumed positions, in the segment that it receives in.
    cells: [RingMemory; LANES],
    /// Whether this side sleeps, in the segment that it receives in.
    sleeping: RingMemory,
    anchor: Arc<Anchor>,
    armed: bool,
    polls: u32,
}

impl ShmInbound {
    pub(crate) fn new(own: &Segment, peer: &Segment, anchor: Arc<Anchor>) -> ShmInbound {
        let sleeping = own.sleeping();
        // What an earlier link of the same session left.
        doze::withdraw(sleeping.word(0));
        ShmInbound {
            cells: peer.cells(),
            sleeping,
            anchor,
            armed: false,
            polls: 0,
        }
    }

    #[cold]
    fn inspect(&mut self) -> Result<(), LinkError> {
        self.polls = 0;
        if std::mem::take(&mut self.armed) {
            doze::withdraw(self.sleeping.word(0));
        }
        self.anchor.drain()
    }
}

impl Inbound for ShmInbound {
    const NOTICES: bool = false;

    #[inline]
    fn credit(&self, lane: Lane, _: Position) -> Position {
        self.cells[lane.index()]
            .word(ACKNOWLEDGED)
            .load(Ordering::Acquire)
    }

    #[inline]
    fn tend(&mut self) -> Result<(), LinkError> {
        self.polls += 1;
        if self.armed || self.polls >= POLLS_BETWEEN_INSPECTIONS {
            return self.inspect();
        }
        Ok(())
    }

    fn arm(&mut self, quiet: &dyn Fn(&Self) -> bool) -> Result<bool, LinkError> {
        // Wake-ups of an earlier sleep would end this one at once.
        self.anchor.drain()?;
        doze::announce(self.sleeping.word(0));
        self.armed = quiet(self);
        if !self.armed {
            doze::withdraw(self.sleeping.word(0));
        }
        Ok(self.armed)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.anchor.socket.as_fd()]
    }
}

/// The error of a system call on the socket.
pub(crate) fn socket_error(error: rustix::io::Errno) -> LinkError {
    match error {
        rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => LinkError::Closed,
        other => LinkError::Io(io::Error::from(other)),
    }
}

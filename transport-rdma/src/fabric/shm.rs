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
//!
//! Each announcement is answered by one byte at most, and taking the announcement back tells whether it was answered: so the
//! receiver knows how many bytes it is owed. Where each change of the socket is told apart, the end of it included, it reads
//! those and no more; otherwise until there is nothing, because the end may stand behind them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
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

/// The socket that is open for as long as the link lives: it wakes, and it ends when the peer's process does. It may be held for
/// longer, by whoever holds the bell.
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

    /// Reads at most so many wake-ups away. How many there were.
    fn drain(&self, most: u32) -> Result<u32, LinkError> {
        let mut bytes = [0u8; 64];
        let mut read = 0;
        while read < most {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Err(self.fail(LinkError::Closed)),
                Ok(_) => read += 1,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(self.fail(LinkError::Io(error.into()))),
            }
        }
        self.check()?;
        Ok(read)
    }

    /// Ends the link, for both sides.
    fn close(&self) {
        self.dead.store(true, Ordering::Relaxed);
        // It fails where the peer has gone before.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn fail(&self, error: LinkError) -> LinkError {
        self.dead.store(true, Ordering::Relaxed);
        error
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
    /// Wake-ups that the peer has sent, or is about to, and that were not read.
    owed: u32,
    /// Told since the last poll: the end of the socket had not come, and will be told by itself.
    told: bool,
    /// The last poll came of that: nothing stands behind the wake-ups that are owed.
    open: bool,
}

/// More wake-ups than a correct peer owes at once.
const ALL: u32 = 16;

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
            owed: 0,
            told: false,
            open: false,
        }
    }

    #[cold]
    fn inspect(&mut self) -> Result<(), LinkError> {
        self.polls = 0;
        if std::mem::take(&mut self.armed) {
            self.withdraw();
        }
        self.read_wakes()
    }

    fn withdraw(&mut self) {
        if doze::withdraw(self.sleeping.word(0)) {
            self.owed = (self.owed + 1).min(ALL);
        }
    }

    /// Reads away the wake-ups that are owed, and looks for the end of the socket where that is not told.
    fn read_wakes(&mut self) -> Result<(), LinkError> {
        let most = if self.open { self.owed } else { ALL };
        let read = self.anchor.drain(most)?;
        self.owed = self.owed.saturating_sub(read);
        Ok(())
    }
}

impl Drop for ShmInbound {
    fn drop(&mut self) {
        self.anchor.close();
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
        self.open = std::mem::take(&mut self.told);
        if self.armed || self.polls >= POLLS_BETWEEN_INSPECTIONS {
            return self.inspect();
        }
        Ok(())
    }

    fn arm(&mut self, quiet: &dyn Fn(&Self) -> bool) -> Result<bool, LinkError> {
        // Wake-ups of an earlier sleep would end this one at once.
        self.read_wakes()?;
        doze::announce(self.sleeping.word(0));
        self.armed = quiet(self);
        if !self.armed {
            self.withdraw();
        }
        Ok(self.armed)
    }

    fn told(&mut self, closed: bool) {
        self.told = !closed;
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

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use transport::lane::LaneSizes;

    use super::*;

    /// The receiving half of one end, and the bell of the other.
    fn ends() -> (ShmInbound, Bell) {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (here, there) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        let (own, peer) = (segment(), segment());
        let bell = Bell::new(&own, Arc::new(Anchor::new(there)));
        (ShmInbound::new(&own, &peer, Arc::new(Anchor::new(here))), bell)
    }

    fn segment() -> Segment {
        Segment::create(&LaneSizes::default()).unwrap()
    }

    /// Wake-ups that lie on the socket.
    fn unread(inbound: &ShmInbound) -> u32 {
        inbound.anchor.drain(ALL).unwrap()
    }

    #[test]
    fn a_wake_up_that_was_told_of_is_read_and_no_more_is_owed() {
        let (mut inbound, bell) = ends();
        for _ in 0..100 {
            assert!(inbound.arm(&|_| true).unwrap());
            bell.ring();
            bell.ring();
            inbound.told(false);
            inbound.tend().unwrap();
            assert_eq!(inbound.owed, 0);
        }
        assert_eq!(unread(&inbound), 0);
    }

    #[test]
    fn a_wake_up_of_a_sleep_that_was_called_off_is_read_with_the_next() {
        let (mut inbound, bell) = ends();
        let woken_meanwhile = |_: &ShmInbound| {
            bell.ring();
            false
        };
        assert!(!inbound.arm(&woken_meanwhile).unwrap());
        assert_eq!(inbound.owed, 1);
        inbound.told(false);
        inbound.tend().unwrap();
        assert!(inbound.arm(&|_| true).unwrap());
        assert_eq!((inbound.owed, unread(&inbound)), (0, 0));
    }

    #[test]
    fn the_end_behind_a_wake_up_is_seen_whether_it_is_told_or_not() {
        for told in [None, Some(true)] {
            let (mut inbound, bell) = ends();
            assert!(inbound.arm(&|_| true).unwrap());
            bell.ring();
            drop(bell);
            if let Some(closed) = told {
                inbound.told(closed);
            }
            assert!(matches!(inbound.tend(), Err(LinkError::Closed)));
        }
    }

    #[test]
    fn an_end_that_comes_while_nothing_is_armed_is_seen_before_the_next_sleep() {
        for told in [None, Some(true)] {
            let (mut inbound, bell) = ends();
            drop(bell);
            if let Some(closed) = told {
                inbound.told(closed);
                inbound.tend().unwrap();
            }
            assert!(matches!(inbound.arm(&|_| true), Err(LinkError::Closed)));
        }
    }
}

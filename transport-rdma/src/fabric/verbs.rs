//! RDMA writes on a reliable connection, through libibverbs: hardware NICs and the kernel's soft-RoCE.
//!
//! Small frames are found by polling memory, unless the receiver asked for notices of them too. No order is taken for
//! granted, neither of the bytes within a write nor of writes: frames carry checksums, and so, in their way, do the
//! cells. Writes of the large lane, where a checksum would cost more, carry a [`notice`]. A completion at the sender's
//! side proves nothing about what the peer's CPU sees and is used for room in the send queue alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use transport::lane::{LANES, Lane};
use transport::link::LinkError;
use transport::memory::RingMemory;
use transport::ring::{Position, ReceiveRing};

use super::{Inbound, Outbound, Request};
use crate::limits::{POLLS_BETWEEN_INSPECTIONS, verbs as limits};
use crate::rdma::anchor::Anchor;

pub(crate) mod cells;
mod completion;
mod connection;
mod counts;
pub(crate) mod device;
mod events;
mod gather;
mod lending;
mod life;
mod notice;
pub(crate) mod notify;
pub(crate) mod prepared;
mod receives;
mod region;
mod send_queue;

use connection::Connection;
use notice::Notice;
use notify::Notify;
use receives::Receives;
use send_queue::Write;

/// The sending half.
pub(crate) struct VerbsOutbound {
    connection: Arc<Connection>,
    anchor: Arc<Anchor>,
}

impl VerbsOutbound {
    pub(crate) fn new(connection: Arc<Connection>, anchor: Arc<Anchor>) -> VerbsOutbound {
        VerbsOutbound { connection, anchor }
    }
}

impl Outbound for VerbsOutbound {
    const CARRIES: bool = true;
    const GATHERS: bool = true;

    fn lend(&mut self, memory: &RingMemory) -> Option<usize> {
        self.connection.send_queue().lend(memory)
    }

    fn post(&mut self, requests: &[Request]) -> Result<usize, LinkError> {
        // Until the peer's queue pair is ready, what is sent would only be sent again.
        if !self.anchor.peer_is_ready() && !self.anchor.check()? {
            self.connection.set_blocked(true);
            return Ok(0);
        }
        let mut queue = self.connection.send_queue();
        // Read under the lock: see `notify`.
        let notify = self.connection.peer_notify(queue.obeyed());
        if let [request] = requests
            && queue.post_alone(request, notify)?
        {
            return Ok(1);
        }
        let taken = queue.post(requests.iter().map(Write::Link), notify)?;
        if taken == requests.len() {
            return Ok(taken);
        }
        // First the request for an event, then the look at whether there is room by now.
        self.connection.set_blocked(true);
        self.connection.arm_send_completions()?;
        Ok(taken + queue.post(requests[taken..].iter().map(Write::Link), notify)?)
    }
}

/// The receiving half.
pub(crate) struct VerbsInbound {
    receives: Receives,
    connection: Arc<Connection>,
    anchor: Arc<Anchor>,
    notify: Notify,
    /// Ends a sleep that the peer has not confirmed.
    timer: OwnedFd,
    armed: bool,
    polls: u32,
    /// The last notice of how far each lane has arrived, until its ring knows.
    notices: [Option<Notice>; LANES],
}

impl VerbsInbound {
    pub(crate) fn new(
        connection: Arc<Connection>,
        receives: Receives,
        anchor: Arc<Anchor>,
    ) -> Result<VerbsInbound, LinkError> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(io::Error::from)?;
        Ok(VerbsInbound {
            receives,
            connection,
            anchor,
            notify: Notify::default(),
            timer,
            armed: false,
            polls: 0,
            notices: [None; LANES],
        })
    }

    fn set_timer(&self, after: Option<Duration>) -> Result<(), LinkError> {
        let after = after.unwrap_or_default();
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: never,
            it_value: Timespec {
                tv_sec: after.as_secs() as i64,
                tv_nsec: i64::from(after.subsec_nanos()),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map_err(io::Error::from)?;
        Ok(())
    }

    /// Takes in wake-ups and notices. Whether there were any.
    fn take_immediates(&mut self) -> Result<bool, LinkError> {
        let VerbsInbound {
            receives,
            notify,
            notices,
            ..
        } = self;
        let mut any = false;
        let mut strange = None;
        receives.poll(|immediate| {
            any = true;
            match Notice::read(immediate) {
                Some((lane, told)) => match notices.get_mut(lane) {
                    Some(notice) => *notice = Some(told),
                    None => strange = Some(lane),
                },
                None => notify.woken(immediate),
            }
        })?;
        if let Some(lane) = strange {
            return Err(LinkError::Protocol(format!(
                "a notice for lane {lane}, and there are {LANES}"
            )));
        }
        Ok(any)
    }

    /// Keeps to what the peer wants of us. False when there was no room to confirm it; a later poll tries again.
    fn obey(&mut self) -> Result<bool, LinkError> {
        let Some(wish) = self.connection.peer_notify(self.notify.obeyed) else {
            return Ok(true);
        };
        let Some(mut queue) = self.connection.try_send_queue() else {
            return Ok(false);
        };
        if queue.obeyed() != wish {
            if wish & notify::ON == 0 {
                queue.obey(wish);
            } else if queue.post([Write::Notify(self.notify.wish())].into_iter(), Some(wish))? == 0 {
                return Ok(false);
            }
        }
        self.notify.obeyed = wish;
        Ok(true)
    }

    /// Tells the peer what we want of it. False when there was no room.
    fn announce(&mut self) -> Result<bool, LinkError> {
        if self.notify.is_announced() {
            return Ok(true);
        }
        if !self.anchor.peer_is_ready() {
            return Ok(false);
        }
        let Some(mut queue) = self.connection.try_send_queue() else {
            return Ok(false);
        };
        let peer = self.connection.peer_notify(queue.obeyed());
        if queue.post([Write::Notify(self.notify.wish())].into_iter(), peer)? == 0 {
            return Ok(false);
        }
        self.notify.announced();
        Ok(true)
    }

    /// What costs a system call, or is not worth its nanoseconds at every poll.
    #[cold]
    fn inspect(&mut self) -> Result<(), LinkError> {
        self.polls = 0;
        if std::mem::take(&mut self.armed) {
            self.receives.channel().drain();
            self.set_timer(None)?;
        }
        self.anchor.check()?;
        self.connection.check_device()?;
        self.take_immediates()?;
        match self.connection.try_send_queue() {
            Some(mut queue) => queue.reap(),
            None => Ok(()),
        }
    }

    /// Whether a push that found no room would find some now.
    fn has_room_again(&self) -> Result<bool, LinkError> {
        if !self.connection.is_blocked() || !self.anchor.peer_is_ready() {
            return Ok(false);
        }
        self.connection.arm_send_completions()?;
        let mut queue = self.connection.send_queue();
        queue.reap()?;
        let has_room = queue.has_room();
        self.connection.set_blocked(!has_room);
        Ok(has_room)
    }
}

impl Inbound for VerbsInbound {
    const NOTICES: bool = true;

    #[inline]
    fn credit(&self, lane: Lane, known: Position) -> Position {
        self.connection.credit(lane, known).unwrap_or(known)
    }

    #[inline]
    fn arrived(&mut self, lane: Lane, ring: &ReceiveRing) -> Result<Position, LinkError> {
        if ring.stirs() {
            self.take_immediates()?;
        }
        let known = ring.arrived();
        let notice = self.notices[lane.index()].take();
        Ok(notice.map_or(known, |notice| notice.position(known)))
    }

    fn tend(&mut self) -> Result<(), LinkError> {
        self.polls += 1;
        if self.armed || self.polls >= POLLS_BETWEEN_INSPECTIONS {
            self.inspect()?;
        } else if self.notify.expects_wakes() {
            self.take_immediates()?;
        }
        if self.connection.peer_notify(self.notify.obeyed).is_some() {
            self.obey()?;
        }
        if self.notify.is_tired(limits::WAKES_WITHOUT_SLEEP) {
            self.notify.want(false);
        }
        if !self.notify.is_announced() {
            self.announce()?;
        }
        Ok(())
    }

    fn arm(&mut self, quiet: &dyn Fn(&Self) -> bool) -> Result<bool, LinkError> {
        self.anchor.check()?;
        self.notify.slept();
        self.notify.want(true);
        self.announce()?;
        // First the request for an event, then the look at whether one would have been due.
        self.receives.channel().drain();
        self.receives.arm()?;
        // Also a notice that an earlier call has found, and no poll has seen since.
        let any = self.take_immediates()? || self.notices.iter().any(Option::is_some);
        if any || self.has_room_again()? || !self.obey()? {
            return Ok(false);
        }
        let patience = self.notify.patience(limits::UNCONFIRMED_SLEEP);
        self.set_timer(patience)?;
        self.armed = true;
        if !quiet(self) {
            self.inspect()?;
            return Ok(false);
        }
        Ok(true)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![
            self.receives.channel().descriptor(),
            self.anchor.as_fd(),
            self.timer.as_fd(),
        ]
    }
}

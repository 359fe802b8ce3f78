//! Sending: whoever commits pushes, unless somebody else is pushing already. Control messages that find no room wait here.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
#[cfg(feature = "tokio")]
use std::sync::atomic::fence;
use std::sync::{Arc, MutexGuard};

use super::PeerInner;
use crate::breakage::{Breakage, is_broken};
use crate::control::Control;
use crate::frame::Kind;
use crate::lane::Lane;
use crate::link::{LinkError, Push};
#[cfg(feature = "tokio")]
use crate::on_tokio::DrivingTask;
use crate::wait::lock;

/// Why a session ends whose peer does not take control messages.
pub(super) const OVERWHELMED: &str = "the peer does not take control messages";

/// Control messages that may wait for room at once. They only do while the peer is stuck or the link is gone.
const MAX_BACKLOG: usize = 64 << 10;

/// How often what a stream has written leaves at once after something has arrived: an answer, or a question, that is written in
/// two pieces, such as the headers of a call and its body, waits for nobody.
#[cfg(feature = "tokio")]
const AT_ONCE: u32 = 2;

/// Control messages on their way into the ring.
#[derive(Default)]
pub(super) struct Backlog {
    /// Those that wait for room.
    waiting: VecDeque<Vec<u8>>,
    /// Where one that finds room at once is encoded: sending it allocates nothing.
    encoded: Vec<u8>,
}

impl PeerInner {
    /// Lets the link know that something was committed: the end of every send.
    #[inline]
    pub(crate) fn flush(&self) {
        match self.doorbell.get() {
            Some(bell) => {
                self.take_along();
                bell.ring();
                self.send.ring(Lane::Ordinary).zero_ahead();
            }
            None => {
                self.push();
                self.send.ring(Lane::Ordinary).fetch_ahead();
            }
        }
        // Ordered after the commit by the fence in the bell, which pairs with the one in `end`, or by the gate.
        if self.ended.get().is_some() {
            self.collect_unacknowledged();
        }
    }

    /// As [`PeerInner::flush`], for who has much to push, or wants it gone: where another thread is pushing, returns when that one has
    /// taken it along. Otherwise a thread that came with a few bytes would go on pushing for as long as a long message flows.
    pub(crate) fn flush_much(&self) {
        self.flush();
        self.see_pushed();
    }

    /// Returns when what this thread had pushed by another one has been pushed: at once where no thread is pushing.
    #[inline]
    pub(crate) fn see_pushed(&self) {
        self.gate.see_pushed(std::thread::yield_now);
    }

    /// As [`PeerInner::flush`], where more is likely to follow at once. The first two times after something has arrived from
    /// the peer it is the same, so that whoever asks and waits waits for nobody else. After that, where a task of tokio
    /// drives the node, that task pushes when it next has its turn, and takes along what has come by then. Whether it was left to it.
    #[inline]
    pub(crate) fn flush_soon(self: &Arc<Self>) -> bool {
        #[cfg(feature = "tokio")]
        if let Some(task) = self.pushing_task()
            && self.has_written_much()
            && self.is_left(|| task.postpone(self.clone()))
        {
            return true;
        }
        self.flush();
        false
    }

    /// Counts one more that a stream has written since something last arrived: whether that was enough at once. Of two that write at
    /// the same time one may not be counted.
    #[cfg(feature = "tokio")]
    #[inline]
    fn has_written_much(&self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        self.written.store(written.saturating_add(1), Ordering::Relaxed);
        written >= AT_ONCE
    }

    /// As [`PeerInner::flush`], where the caller is about to write the rest of what it has begun: this leaves with the rest, or
    /// once the runtime's thread that it is called on has nothing else to run. Whether it was left until then.
    pub(crate) fn flush_with_the_rest(self: &Arc<Self>) -> bool {
        #[cfg(feature = "tokio")]
        if let Some(task) = self.pushing_task()
            && self.is_left(|| task.postpone_until_idle(self.clone()))
        {
            return true;
        }
        self.flush();
        false
    }

    /// The task that pushes what is left to it. There is none over shared memory, where nothing has to be pushed.
    #[cfg(feature = "tokio")]
    fn pushing_task(&self) -> Option<&DrivingTask> {
        self.node.task.get().filter(|_| self.doorbell.get().is_none())
    }

    /// Leaves what was committed to whom `list` tells of this peer. False when the caller has to see to it.
    #[cfg(feature = "tokio")]
    fn is_left(&self, list: impl FnOnce() -> bool) -> bool {
        if !self.postponed.leave(list) {
            return false;
        }
        // Between the commit and the look; pairs with the one in `end`.
        fence(Ordering::SeqCst);
        self.ended.get().is_none()
    }

    /// Leaves what this thread has committed, or noted as consumed, to the next push, whoever makes it and whatever for: the peer
    /// can do without it until then, and whoever leaves it sees to it that it does not stay for too long.
    pub(crate) fn leave_to_next_push(&self) {
        self.rides_along.store(true, Ordering::Release);
    }

    /// Whether what was left to the next push has not left.
    pub(crate) fn is_left_to_next_push(&self) -> bool {
        self.rides_along.load(Ordering::Relaxed)
    }

    /// What was left to the next push leaves with this one.
    #[inline]
    fn take_along(&self) {
        // Taken by an exchange, so that what was left before is seen by the push that follows.
        if self.is_left_to_next_push() {
            self.rides_along.swap(false, Ordering::Acquire);
        }
    }

    /// Pushes what was left to the task that drives the node.
    pub(crate) fn push_postponed(&self) {
        if self.postponed.is_left() {
            self.postponed.take_back();
            self.push();
        }
    }

    /// Pushes what was committed, unless another thread is pushing: then that thread takes it along.
    pub(crate) fn push(&self) {
        self.gate.pass(|sender| {
            self.take_along();
            match sender.push(&self.send) {
                Ok(Push::Done) => self.blocked.store(false, Ordering::Relaxed),
                Ok(Push::Blocked) => {
                    if !self.blocked.swap(true, Ordering::Relaxed) {
                        self.node.attend();
                    }
                }
                Err(error) => {
                    // Before another link's sender can stand here: the failure is this one's.
                    self.fail_link(error);
                    return false;
                }
            }
            true
        });
    }

    pub(crate) fn fail_link(&self, error: LinkError) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.node.attend();
    }

    pub(crate) fn send_control(&self, control: &Control) {
        let mut backlog = lock(&self.backlog);
        let bytes = control.encode_in(std::mem::take(&mut backlog.encoded));
        if backlog.waiting.is_empty() && self.commit_control(&bytes) {
            backlog.encoded = bytes;
            drop(backlog);
            self.flush();
        } else {
            self.let_wait(backlog, bytes);
        }
    }

    /// As [`PeerInner::send_control`], by the driver in its next turn: not while a frame is half-way to its mailbox.
    pub(crate) fn send_control_in_turn(&self, control: &Control) {
        self.let_wait(lock(&self.backlog), control.encode());
        // Not every peer has a turn when the driver wakes.
        self.node.attend();
    }

    fn let_wait(&self, mut backlog: MutexGuard<'_, Backlog>, bytes: Vec<u8>) {
        if is_broken(Breakage::LosesTheBacklog) {
            return;
        }
        if backlog.waiting.len() < MAX_BACKLOG {
            backlog.waiting.push_back(bytes);
            self.backlogged.store(true, Ordering::Release);
            return;
        }
        drop(backlog);
        // What is not said here is never said: the session can't go on without it.
        self.overwhelmed.store(true, Ordering::Release);
        self.fail_link(LinkError::Protocol(OVERWHELMED.into()));
    }

    /// Whether control messages wait for room.
    pub(super) fn is_backlogged(&self) -> bool {
        self.backlogged.load(Ordering::Acquire)
    }

    pub(super) fn commit_control(&self, bytes: &[u8]) -> bool {
        let Ok(mut claim) = self.send.ring(Lane::Control).claim(bytes.len()) else {
            return false;
        };
        claim.body().copy_from_slice(bytes);
        claim.commit(Kind::Control, 0, 0, 0);
        true
    }

    pub(super) fn work_off_backlog(&self) {
        let mut backlog = lock(&self.backlog);
        let mut sent = false;
        while let Some(bytes) = backlog.waiting.front() {
            if !self.commit_control(bytes) {
                break;
            }
            sent = true;
            backlog.waiting.pop_front();
        }
        self.backlogged
            .store(!backlog.waiting.is_empty(), Ordering::Release);
        drop(backlog);
        if sent {
            self.flush();
        }
    }
}

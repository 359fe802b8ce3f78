//! The receiving end of a mailbox: takes what has come, blocking, asynchronously, or not at all.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::queue::{Batch, Entry};
use super::{MailboxClosed, MailboxShared, Message, Overflow, Port};
use crate::assembly::Assembled;
use crate::control::Control;
use crate::dead_letter::Reason;
use crate::node::NodeInner;
use crate::questions::THIS_NODE;
use crate::trace::TraceContext;
use crate::wait::lock;
use crate::watch::Gone;

/// The receiving end of a mailbox: the actor's side. Dropping it closes the mailbox; what was not taken becomes dead
/// letters, here and at its senders.
pub struct Mailbox {
    pub(crate) shared: Arc<MailboxShared>,
    pub(super) node: Arc<NodeInner>,
    front: Box<Batch>,
    ports: Vec<Arc<Port>>,
    /// Entries and bytes of `front` already taken.
    taken: usize,
    offset: usize,
    /// The message that is lent, when it lay apart.
    large: Option<Assembled>,
    /// The trace context of the message that is lent.
    trace: Option<TraceContext>,
}

/// Whether the front holds a message.
pub(super) enum Fill {
    Ready,
    Empty,
    Closed,
}

impl Mailbox {
    pub(crate) fn new(shared: Arc<MailboxShared>, node: Arc<NodeInner>) -> Mailbox {
        Mailbox {
            shared,
            node,
            front: Box::default(),
            ports: Vec::new(),
            taken: 0,
            offset: 0,
            large: None,
            trace: None,
        }
    }

    /// The mailbox's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Messages that wait to be taken.
    pub fn depth(&self) -> usize {
        self.shared.depth()
    }

    /// Whether `fill` may find a message, or the mailbox closed. Takes no lock.
    #[inline]
    pub(crate) fn may_fill(&self) -> bool {
        self.taken < self.front.entries.len() || self.shared.stirred.load(Ordering::Acquire)
    }

    /// Makes sure that the front holds a message, if there is one; otherwise leaves the waker to be woken.
    #[inline]
    pub(super) fn fill(&mut self, waker: Option<&Waker>) -> Fill {
        if self.taken < self.front.entries.len() {
            return Fill::Ready;
        }
        self.fill_again(waker)
    }

    /// As [`Mailbox::fill`], where all of the front has been taken.
    fn fill_again(&mut self, waker: Option<&Waker>) -> Fill {
        if self.taken > 0 {
            self.front.clear();
            (self.taken, self.offset) = (0, 0);
        }
        let mut queue = lock(&self.shared.queue);
        if queue.batch.entries.is_empty() {
            if queue.closed {
                return Fill::Closed;
            }
            self.shared.stirred.store(false, Ordering::Relaxed);
            if let Some(waker) = waker {
                queue.receiver = Some(waker.clone());
            }
            return Fill::Empty;
        }
        if self.shared.options.overflow == Overflow::DropOldest {
            // One at a time, so that what is dropped is the oldest.
            queue.batch.move_oldest(&mut self.front);
        } else {
            std::mem::swap(&mut self.front, &mut queue.batch);
        }
        if std::mem::take(&mut queue.ports_changed) {
            self.ports.clone_from(&queue.ports);
        }
        self.shared
            .held
            .store(self.front.entries.len(), Ordering::Relaxed);
        drop(queue);
        Fill::Ready
    }

    /// Counts the first message of the front, which `fill` found ready, as taken by its receiver: what stands of it beside its
    /// bytes, and where those lie.
    #[inline]
    fn count_first(&mut self) -> (Entry, Range<usize>) {
        let entry = self.front.entries.as_slice()[self.taken];
        if entry.timed {
            self.shared.timed();
        }
        let start = self.offset;
        self.taken += 1;
        self.offset += entry.bytes();
        self.shared
            .held
            .store(self.front.entries.len() - self.taken, Ordering::Relaxed);
        if let Some(port) = self.ports.get(entry.port as usize) {
            port.take();
        }
        (entry, start..self.offset)
    }

    /// Takes the first message of the front, which `fill` found ready.
    pub(super) fn take(&mut self) -> Message<'_> {
        let (entry, bytes) = self.count_first();
        self.shared.room.wake_all();
        if entry.apart || self.large.is_some() {
            // The one that was lent before this one is done with.
            self.large = match entry.apart {
                true => self.front.apart.pop_front(),
                false => None,
            };
        }
        if entry.traced || self.trace.is_some() {
            self.trace = match entry.traced {
                true => self.front.traces.pop_front(),
                false => None,
            };
        }
        let payload = match &self.large {
            Some(large) => large,
            None => &self.front.bytes.as_slice()[bytes],
        };
        Message {
            payload,
            correlation: entry.correlation,
            trace: self.trace.as_ref(),
            at: Some(entry.at),
            port: self.ports.get(entry.port as usize).map(Arc::as_ref),
            node: &self.node,
        }
    }

    /// Takes the next message and says where its bytes lie, for [`Mailbox::bytes`]: until the next call of this.
    /// Leaves the waker where there is none. Only for a mailbox without a name: nobody of this node sends there, or waits for room.
    pub(crate) fn poll_take(&mut self, waker: &Waker) -> Poll<Range<usize>> {
        match self.fill(Some(waker)) {
            Fill::Ready => Poll::Ready(self.count_first().1),
            Fill::Empty | Fill::Closed => Poll::Pending,
        }
    }

    /// The bytes of the message that was taken last, or a part of them.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.front.bytes.as_slice()[range]
    }

    /// Takes whatever is there and throws it away without a word: for an owner who tells its senders by itself.
    pub(crate) fn discard(&mut self) {
        loop {
            while self.taken < self.front.entries.len() {
                self.take();
            }
            if !matches!(self.fill(None), Fill::Ready) {
                break;
            }
        }
    }

    /// The next message, if one is there.
    ///
    /// # Errors
    /// [`MailboxClosed`] when the node is closed and everything has been taken.
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, MailboxClosed> {
        match self.fill(None) {
            Fill::Ready => Ok(Some(self.take())),
            Fill::Empty => Ok(None),
            Fill::Closed => Err(MailboxClosed),
        }
    }

    /// The next message; blocks until there is one. Where the node has no thread of its own, drives the node.
    ///
    /// # Errors
    /// [`MailboxClosed`] when the node is closed and everything has been taken.
    pub fn recv(&mut self) -> Result<Message<'_>, MailboxClosed> {
        self.recv_until(None)
            .map(|message| message.expect("without a deadline there is a message"))
    }

    /// The next message; blocks for at most `timeout`.
    ///
    /// # Errors
    /// As [`Mailbox::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>, MailboxClosed> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Option<Message<'_>>, MailboxClosed> {
        let node = self.node.clone();
        let filled = node.wait_for(deadline, |waker| self.poll_fill(waker));
        match filled {
            Some(Ok(())) => Ok(Some(self.take())),
            Some(Err(closed)) => Err(closed),
            None => Ok(None),
        }
    }

    /// The next message; a future that any executor can run. The node must have a thread of its own
    /// ([`crate::node::Drive::Thread`]), or somebody must call [`crate::node::Node::poll`]. Cancelling loses nothing.
    ///
    /// # Errors
    /// As [`Mailbox::recv`].
    pub async fn recv_async(&mut self) -> Result<Message<'_>, MailboxClosed> {
        std::future::poll_fn(|context| self.poll_fill(context.waker())).await?;
        Ok(self.take())
    }

    /// As [`Mailbox::recv_async`], without the future.
    pub(crate) fn poll_recv(&mut self, waker: &Waker) -> Poll<Result<Message<'_>, MailboxClosed>> {
        self.poll_fill(waker).map_ok(|()| self.take())
    }

    /// Ready when there is a message to take, or never will be.
    fn poll_fill(&mut self, waker: &Waker) -> Poll<Result<(), MailboxClosed>> {
        match self.fill(Some(waker)) {
            Fill::Ready => Poll::Ready(Ok(())),
            Fill::Closed => Poll::Ready(Err(MailboxClosed)),
            Fill::Empty => Poll::Pending,
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.node.forget_mailbox(&self.shared);
        self.shared.close();
        loop {
            while self.taken < self.front.entries.len() {
                let end = self.front.entries.as_slice()[self.taken].end;
                let message = self.take();
                let lost = message.lost(Reason::MailboxClosed);
                let message_is_local = message.port.is_none();
                let sender = message
                    .port
                    .and_then(|port| Some((port.peer.upgrade()?, port.handle)));
                if let Some((peer, handle)) = sender {
                    let waited = lost.age.unwrap_or_default().as_millis();
                    peer.send_control_in_turn(&Control::Undelivered {
                        handle,
                        length: lost.len as u32,
                        waited: u32::try_from(waited).unwrap_or(u32::MAX),
                        correlation: lost.correlation.unwrap_or(0),
                        lane: end.lane(),
                        consumed: end.position(),
                    });
                }
                if message_is_local {
                    self.node.questions.not_taken(lost.correlation, THIS_NODE);
                }
                self.shared.report(lost);
            }
            if !matches!(self.fill(None), Fill::Ready) {
                break;
            }
        }
        let mut queue = lock(&self.shared.queue);
        // A session remembers its mailboxes as long as it lives: not their memory, too.
        *queue.batch = Batch::default();
        for port in &queue.ports {
            if let Some(peer) = port.peer.upgrade() {
                peer.send_closed(port.handle);
            }
        }
        self.shared.watchers.tell(&Gone::MailboxClosed);
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.shared.name)
            .field("depth", &self.depth())
            .finish()
    }
}

//! The part of a mailbox that senders and links see: what comes in, whether there is room, what becomes of the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::queue::{Entry, LOCAL, Queue};
use super::{Lost, MailboxClosed, MailboxOptions, Overflow, Payload, Port};
use crate::address::SendError;
use crate::clock::Stamp;
use crate::dead_letter::{DeadLetter, Reason};
use crate::lane::FrameEnd;
use crate::latency::{Latencies, Latency};
use crate::node::NodeInner;
use crate::observe::{MailboxObservation, ReceivedByPeer};
use crate::peer::PeerInner;
use crate::protocol::Spoken;
use crate::questions::THIS_NODE;
use crate::trace::Tags;
use crate::wait::{WaitList, lock};
use crate::watch::Watchers;

/// The part of a mailbox that senders and links see.
pub(crate) struct MailboxShared {
    pub(crate) name: String,
    pub(crate) options: MailboxOptions,
    /// The protocol of its messages; `None` for raw bytes.
    pub(crate) speaks: Option<Spoken>,
    latencies: Arc<Latencies>,
    node: Weak<NodeInner>,
    pub(super) queue: Mutex<Queue>,
    /// The queue may hold messages, or is closed. Written under its lock; false when the receiver need not look.
    pub(super) stirred: AtomicBool,
    /// Messages in the receiver's hands and not yet taken.
    pub(super) held: AtomicUsize,
    pub(crate) room: WaitList,
    pub(crate) watchers: Watchers,
}

impl MailboxShared {
    pub(crate) fn new(
        name: String,
        options: MailboxOptions,
        speaks: Option<Spoken>,
        latencies: Arc<Latencies>,
        node: Weak<NodeInner>,
    ) -> MailboxShared {
        MailboxShared {
            name,
            options,
            speaks,
            latencies,
            node,
            queue: Mutex::default(),
            stirred: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            room: WaitList::default(),
            watchers: Watchers::default(),
        }
    }

    /// The port that a session has. `None` when it has none, or the mailbox is closed.
    pub(crate) fn port_of(&self, peer: &Weak<PeerInner>) -> Option<Arc<Port>> {
        let queue = lock(&self.queue);
        let mut ports = queue.ports.iter().filter(|_| !queue.closed);
        ports.find(|port| port.peer.ptr_eq(peer)).cloned()
    }

    /// A new port for a session. `None` when the mailbox is closed.
    pub(crate) fn port(self: &Arc<Self>, peer: &Weak<PeerInner>, handle: u32) -> Option<Arc<Port>> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return None;
        }
        // A port whose session is over gives its place away.
        let place = queue.ports.iter().position(|port| port.is_done_with());
        let index = place.unwrap_or(queue.ports.len());
        let port = Arc::new(Port::new(peer, handle, self, index));
        match place {
            Some(place) => queue.ports[place] = port.clone(),
            None => queue.ports.push(port.clone()),
        }
        queue.ports_changed = true;
        Some(port)
    }

    /// The timed message has been taken.
    #[cold]
    pub(super) fn timed(&self) {
        let waited = lock(&self.queue).timer.stop();
        if let Some(waited) = waited {
            self.latencies.tell(&Latency {
                mailbox: self.name.clone(),
                protocol: self.speaks.as_ref().map(|spoken| spoken.name.clone()),
                waited,
            });
        }
    }

    pub(crate) fn observe(&self, received: &mut ReceivedByPeer) -> MailboxObservation {
        let queue = lock(&self.queue);
        let live = || queue.ports.iter().filter(|port| port.is_live());
        for port in live() {
            received.add(port.peer.as_ptr(), port.received());
        }
        MailboxObservation {
            name: self.name.clone(),
            protocol: self.speaks.as_ref().map(|spoken| spoken.name.clone()),
            depth: queue.batch.entries.len() + self.held.load(Ordering::Relaxed),
            capacity: self.options.capacity,
            received: live().map(|port| port.received()).sum(),
            taken: live().map(|port| port.taken()).sum(),
            senders: live().count(),
        }
    }

    /// How many sessions have a place here that another can't take yet.
    #[cfg(feature = "conformance")]
    pub(crate) fn ports_in_use(&self) -> usize {
        let queue = lock(&self.queue);
        queue.ports.iter().filter(|port| !port.is_done_with()).count()
    }

    pub(crate) fn depth(&self) -> usize {
        lock(&self.queue).batch.entries.len() + self.held.load(Ordering::Relaxed)
    }

    /// Puts a message of a peer into the queue. Its sender had credit, so there is room.
    pub(crate) fn deliver(
        &self,
        port: &Port,
        tags: Tags<'_>,
        payload: Payload<'_>,
        at: Stamp,
        end: FrameEnd,
    ) -> Result<(), MailboxClosed> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(MailboxClosed);
        }
        self.make_room(&mut queue);
        self.push(queue, port.index, tags, payload, at, end);
        Ok(())
    }

    /// Puts a message of this node into the queue, if there is room.
    pub(crate) fn deliver_locally(&self, tags: Tags<'_>, payload: &[u8]) -> LocalDelivery {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return LocalDelivery::Closed;
        }
        if self.options.overflow == Overflow::DropOldest {
            self.make_room(&mut queue);
        } else if self.is_full(&queue) {
            return LocalDelivery::Full;
        }
        self.push_locally(queue, tags, payload);
        LocalDelivery::Done
    }

    fn is_full(&self, queue: &Queue) -> bool {
        let there = queue.batch.entries.len() + self.held.load(Ordering::Relaxed);
        there + queue.kept >= self.options.capacity as usize
    }

    /// Whether a message of this length may come in at all.
    pub(crate) fn check_len(&self, len: usize) -> Result<(), SendError> {
        let max = self.options.max_message as usize;
        match len > max {
            true => Err(SendError::TooLarge { len, max }),
            false => Ok(()),
        }
    }

    /// Keeps a place for a message of this node, if there is one. With drop-oldest there always is.
    pub(crate) fn keep_place(&self) -> LocalDelivery {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return LocalDelivery::Closed;
        }
        if self.options.overflow != Overflow::DropOldest {
            if self.is_full(&queue) {
                return LocalDelivery::Full;
            }
            queue.kept += 1;
        }
        LocalDelivery::Done
    }

    /// Gives a place up that was kept.
    pub(crate) fn give_place_back(&self) {
        let mut queue = lock(&self.queue);
        queue.kept = queue.kept.saturating_sub(1);
        drop(queue);
        self.room.wake_all();
    }

    /// Puts a message of this node into a place that was kept for it.
    pub(crate) fn deliver_reserved(&self, payload: &[u8]) -> Result<(), MailboxClosed> {
        let mut queue = lock(&self.queue);
        queue.kept = queue.kept.saturating_sub(1);
        if queue.closed {
            return Err(MailboxClosed);
        }
        self.make_room(&mut queue);
        self.push_locally(queue, Tags::default(), payload);
        Ok(())
    }

    /// Puts a message of the node itself into the queue, whether there is room or not.
    pub(crate) fn put(&self, payload: &[u8]) {
        let queue = lock(&self.queue);
        if !queue.closed {
            self.push_locally(queue, Tags::default(), payload);
        }
    }

    fn push_locally(&self, queue: MutexGuard<'_, Queue>, tags: Tags<'_>, payload: &[u8]) {
        let (lent, at) = (Payload::Lent(payload), Stamp::now());
        self.push(queue, LOCAL, tags, lent, at, FrameEnd::NOWHERE);
    }

    fn push(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        port: u32,
        tags: Tags<'_>,
        payload: Payload<'_>,
        at: Stamp,
        end: FrameEnd,
    ) {
        let timed = self.latencies.wanted() && queue.timer.starts(at);
        let entry = Entry {
            len: payload.bytes().len() as u32,
            port,
            apart: matches!(payload, Payload::Whole(_)),
            traced: tags.trace.is_some(),
            at,
            timed,
            correlation: tags.correlation,
            end,
        };
        queue.batch.push(entry, tags.trace, payload);
        self.stirred.store(true, Ordering::Release);
        let receiver = queue.receiver.take();
        drop(queue);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    #[inline]
    fn make_room(&self, queue: &mut Queue) {
        if self.options.overflow == Overflow::DropOldest {
            self.drop_oldest_if_full(queue);
        }
    }

    fn drop_oldest_if_full(&self, queue: &mut Queue) {
        if queue.batch.entries.len() >= self.options.capacity as usize
            && let Some(oldest) = queue.batch.drop_oldest()
        {
            if oldest.timed {
                queue.timer.stop();
            }
            let port = queue.ports.get(oldest.port as usize);
            match port {
                Some(port) => port.forget_one(),
                None => self.not_taken(oldest.correlation),
            }
            self.report(Lost {
                reason: Reason::DroppedOldest,
                from: port.and_then(|port| port.sender()),
                correlation: oldest.correlation,
                len: oldest.len as usize,
                age: Some(oldest.at.age()),
            });
        }
    }

    /// A message of this node itself will not be taken: if it was a question, whoever asked learns so.
    fn not_taken(&self, correlation: Option<u64>) {
        if let Some(node) = self.node.upgrade() {
            node.questions.not_taken(correlation, THIS_NODE);
        }
    }

    /// Makes a dead letter of a message that reached this mailbox and was not taken, or not understood.
    pub(crate) fn report(&self, lost: Lost) {
        if let Some(node) = self.node.upgrade() {
            node.dead_letters.report(DeadLetter {
                from: lost.from,
                protocol: self.speaks.as_ref().map(|spoken| spoken.name.clone()),
                age: lost.age,
                correlation: lost.correlation,
                ..DeadLetter::new(lost.reason, self.name.clone(), lost.len)
            });
        }
    }

    /// Wakes the receiver, so that it sees that a session is over.
    pub(crate) fn session_over(&self) {
        let receiver = lock(&self.queue).receiver.take();
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Refuses what comes from now on and wakes everybody who waits.
    pub(crate) fn close(&self) {
        let receiver = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            self.stirred.store(true, Ordering::Release);
            queue.receiver.take()
        };
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        self.room.wake_all();
    }
}

/// What became of a message for a mailbox of this node.
pub(crate) enum LocalDelivery {
    Done,
    Full,
    Closed,
}

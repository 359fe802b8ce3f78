//! Mailboxes: named, bounded queues of messages with a declared policy for the day they are full.
//!
//! A mailbox promises to hold at most `capacity` messages of each sending node (local senders together count as one),
//! and says what happens to the next one. For remote senders the bound is kept by credit: a sender knows before it
//! sends whether there is room. A mailbox that is full holds back its own senders and nobody else on the link.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::address::SendError;
use crate::breakage::{Breakage, is_broken};
use crate::clock::Stamp;
use crate::codec::DecodeError;
use crate::control::Control;
use crate::dead_letter::{DeadLetter, Reason};
use crate::lane::FrameEnd;
use crate::latency::{Latencies, Latency, Timer};
use crate::node::NodeInner;
use crate::observe::{MailboxObservation, ReceivedByPeer};
use crate::peer::{Peer, PeerInner};
use crate::protocol::Spoken;
use crate::questions::THIS_NODE;
use crate::trace::{Tags, TraceContext};
use crate::wait::{WaitList, lock};
use crate::watch::{Gone, Watchers};

/// What happens to a message for a mailbox that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Overflow {
    /// The sender waits; a sender that can't wait is told so.
    #[default]
    Wait = 0,
    /// The sender is told at once, even by operations that could wait.
    Fail = 1,
    /// The message is dropped, at the sender; a dead letter there.
    DropNewest = 2,
    /// The oldest message in the mailbox is dropped; a dead letter at the receiver.
    DropOldest = 3,
}

impl Overflow {
    pub(crate) fn from_wire(byte: u8) -> Result<Overflow, DecodeError> {
        Ok(match byte {
            0 => Overflow::Wait,
            1 => Overflow::Fail,
            2 => Overflow::DropNewest,
            3 => Overflow::DropOldest,
            other => {
                return Err(DecodeError::Unknown {
                    field: "overflow policy",
                    value: u64::from(other),
                });
            }
        })
    }
}

/// The bounds of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxOptions {
    /// Messages held for each sending node. 1 to 1,048,576; default 1,024.
    pub capacity: u32,
    /// Longest message in bytes. Up to 1 GiB; default 64 KiB. Memory for as many bytes as the longest message of any
    /// mailbox (or as the large ring holds, if that is more) may be taken by each peer for messages that are arriving.
    pub max_message: u32,
    /// What happens when it is full. Default [`Overflow::Wait`].
    pub overflow: Overflow,
}

/// The largest capacity of a mailbox, in messages.
pub const MAX_CAPACITY: u32 = 1 << 20;
/// The longest message that a mailbox may be opened for, in bytes.
pub const MAX_MESSAGE: u32 = 1 << 30;

impl Default for MailboxOptions {
    fn default() -> MailboxOptions {
        MailboxOptions {
            capacity: 1024,
            max_message: 64 << 10,
            overflow: Overflow::Wait,
        }
    }
}

/// The mailbox is closed, or its node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is closed")]
pub struct MailboxClosed;

/// Marks a message of this node itself.
const LOCAL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    len: u32,
    port: u32,
    /// The message is not among the bytes but the next of those that lie apart.
    apart: bool,
    /// Its trace context is the next of those that lie apart.
    traced: bool,
    /// When it came in.
    at: Stamp,
    /// It is the one that is timed.
    timed: bool,
    correlation: Option<u64>,
    /// Where its frame ended.
    end: FrameEnd,
}

impl Entry {
    /// How many of the batch's bytes are this message's.
    fn bytes(&self) -> usize {
        if self.apart { 0 } else { self.len as usize }
    }
}

#[derive(Default)]
struct Batch {
    bytes: VecDeque<u8>,
    /// Messages that were put together from chunks: handed on as they are.
    apart: VecDeque<Vec<u8>>,
    /// Of the messages that have one.
    traces: VecDeque<TraceContext>,
    entries: VecDeque<Entry>,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.apart.clear();
        self.traces.clear();
        self.entries.clear();
    }
}

/// The bytes of a message on its way into a mailbox.
pub(crate) enum Payload<'p> {
    /// They stand where they arrived.
    Lent(&'p [u8]),
    /// They were put together from chunks.
    Whole(Vec<u8>),
}

impl Payload<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Lent(bytes) => bytes,
            Payload::Whole(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    ports: Vec<Arc<Port>>,
    timer: Timer,
    /// Places that permits of this node keep free.
    kept: usize,
    receiver: Option<Waker>,
    closed: bool,
}

/// One sending session's access to a mailbox: its credit.
pub(crate) struct Port {
    pub(crate) peer: Weak<PeerInner>,
    pub(crate) handle: u32,
    pub(crate) mailbox: Arc<MailboxShared>,
    index: u32,
    received: AtomicU64,
    taken: AtomicU64,
    given_up: AtomicU64,
    granted: AtomicU64,
}

impl Port {
    /// The sender's node; `None` when its session is over.
    pub(crate) fn sender(&self) -> Option<String> {
        self.peer.upgrade().map(|peer| peer.identity.node.clone())
    }

    /// Counts a message that has come in. False when the sender had no credit for it.
    #[inline]
    pub(crate) fn receive(&self) -> bool {
        // Written by the driving thread alone.
        let received = self.received.load(Ordering::Relaxed) + 1;
        self.received.store(received, Ordering::Relaxed);
        received <= self.granted.load(Ordering::Acquire)
    }

    /// How many messages the sender may send in all.
    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Acquire)
    }

    /// Counts a message that was taken, and grants further credit when a quarter of it has been used.
    #[inline]
    pub(crate) fn take(&self) {
        // Written by the mailbox's only consumer.
        let taken = self.taken.load(Ordering::Relaxed) + 1;
        self.taken.store(taken, Ordering::Relaxed);
        self.grant();
    }

    /// Counts a message that its sender has given up half-way: it is as good as taken.
    pub(crate) fn give_up(&self) {
        self.forget_one();
        self.grant();
    }

    /// Counts a message that is not going to come, of a session that is over.
    pub(crate) fn forget_one(&self) {
        self.given_up.fetch_add(1, Ordering::AcqRel);
    }

    fn done(&self) -> u64 {
        self.taken.load(Ordering::Acquire) + self.given_up.load(Ordering::Acquire)
    }

    #[inline]
    fn grant(&self) {
        let window = u64::from(self.mailbox.options.capacity);
        let limit = self.done() + window;
        let granted = self.granted.load(Ordering::Relaxed);
        if is_broken(Breakage::ForgetsCredit) {
            return;
        }
        if granted != u64::MAX && limit >= granted + (window / 4).max(1) {
            self.tell_grant(limit);
        }
    }

    #[cold]
    fn tell_grant(&self, limit: u64) {
        self.granted.fetch_max(limit, Ordering::AcqRel);
        if let Some(peer) = self.peer.upgrade() {
            peer.send_control(&Control::Credit {
                handle: self.handle,
                limit,
            });
        }
    }
}

/// The part of a mailbox that senders and links see.
pub(crate) struct MailboxShared {
    pub(crate) name: String,
    pub(crate) options: MailboxOptions,
    /// The protocol of its messages; `None` for raw bytes.
    pub(crate) speaks: Option<Spoken>,
    latencies: Arc<Latencies>,
    node: Weak<NodeInner>,
    queue: Mutex<Queue>,
    /// The queue may hold messages, or is closed. Written under its lock; false when the receiver need not look.
    stirred: AtomicBool,
    /// Messages in the receiver's hands and not yet taken.
    held: AtomicUsize,
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
        let place = queue.ports.iter().position(|port| {
            port.peer.strong_count() == 0 && port.done() == port.received.load(Ordering::Acquire)
        });
        let granted = match self.options.overflow {
            Overflow::DropOldest => u64::MAX,
            Overflow::Wait | Overflow::Fail | Overflow::DropNewest => u64::from(self.options.capacity),
        };
        let port = Arc::new(Port {
            peer: peer.clone(),
            handle,
            mailbox: self.clone(),
            index: place.unwrap_or(queue.ports.len()) as u32,
            received: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            granted: AtomicU64::new(granted),
        });
        match place {
            Some(place) => queue.ports[place] = port.clone(),
            None => queue.ports.push(port.clone()),
        }
        Some(port)
    }

    /// The timed message has been taken.
    #[cold]
    fn timed(&self) {
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
        let live = || queue.ports.iter().filter(|port| port.peer.strong_count() > 0);
        for port in live() {
            received.add(port.peer.as_ptr(), port.received.load(Ordering::Relaxed));
        }
        MailboxObservation {
            name: self.name.clone(),
            protocol: self.speaks.as_ref().map(|spoken| spoken.name.clone()),
            depth: queue.batch.entries.len() + self.held.load(Ordering::Relaxed),
            capacity: self.options.capacity,
            received: live().map(|port| port.received.load(Ordering::Relaxed)).sum(),
            taken: live().map(|port| port.taken.load(Ordering::Relaxed)).sum(),
            senders: live().count(),
        }
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
        queue.batch.entries.push_back(Entry {
            len: payload.bytes().len() as u32,
            port,
            apart: matches!(payload, Payload::Whole(_)),
            traced: tags.trace.is_some(),
            at,
            timed,
            correlation: tags.correlation,
            end,
        });
        if let Some(trace) = tags.trace {
            queue.batch.traces.push_back(*trace);
        }
        match payload {
            Payload::Lent(bytes) => queue.batch.bytes.extend(bytes),
            Payload::Whole(bytes) => queue.batch.apart.push_back(bytes),
        }
        self.stirred.store(true, Ordering::Release);
        let receiver = queue.receiver.take();
        drop(queue);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    fn make_room(&self, queue: &mut Queue) {
        if self.options.overflow == Overflow::DropOldest
            && queue.batch.entries.len() >= self.options.capacity as usize
            && let Some(oldest) = queue.batch.entries.pop_front()
        {
            queue.batch.bytes.drain(..oldest.bytes());
            if oldest.apart {
                queue.batch.apart.pop_front();
            }
            if oldest.traced {
                queue.batch.traces.pop_front();
            }
            if oldest.timed {
                queue.timer.stop();
            }
            let sender = queue.ports.get(oldest.port as usize);
            self.report(Lost {
                reason: Reason::DroppedOldest,
                from: sender.and_then(|port| port.sender()),
                correlation: oldest.correlation,
                len: oldest.len as usize,
                age: Some(oldest.at.age()),
            });
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

/// A message that a mailbox of this node had and that nobody got.
pub(crate) struct Lost {
    pub(crate) reason: Reason,
    /// The sending node; `None` for this one.
    pub(crate) from: Option<String>,
    pub(crate) correlation: Option<u64>,
    pub(crate) len: usize,
    pub(crate) age: Option<Duration>,
}

/// What became of a message for a mailbox of this node.
pub(crate) enum LocalDelivery {
    Done,
    Full,
    Closed,
}

/// A message, lent to whoever takes it from its mailbox.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// The bytes, where they lie. They came from a peer: check them before you believe them.
    pub payload: &'m [u8],
    /// The correlation id, if the sender gave one.
    pub correlation: Option<u64>,
    /// The span that it was sent in, if the sender gave one: [`crate::Address::traced`].
    pub trace: Option<&'m TraceContext>,
    pub(crate) at: Stamp,
    pub(crate) port: Option<&'m Port>,
    pub(crate) node: &'m Arc<NodeInner>,
}

impl Message<'_> {
    /// What becomes of it if nobody gets it.
    pub(crate) fn lost(&self, reason: Reason) -> Lost {
        Lost {
            reason,
            from: self.port.and_then(Port::sender),
            correlation: self.correlation,
            len: self.payload.len(),
            age: Some(self.at.age()),
        }
    }

    /// The sender's node; `None` for this node itself, or when its session is over.
    pub fn peer(&self) -> Option<Peer> {
        self.port.and_then(|port| port.peer.upgrade()).map(Peer)
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.payload.len())
            .field("correlation", &self.correlation)
            .finish()
    }
}

/// The receiving end of a mailbox: the actor's side. Dropping it closes the mailbox; what was not taken becomes dead
/// letters, here and at its senders.
pub struct Mailbox {
    pub(crate) shared: Arc<MailboxShared>,
    node: Arc<NodeInner>,
    front: Batch,
    ports: Vec<Arc<Port>>,
    /// Entries and bytes of `front` already taken.
    taken: usize,
    offset: usize,
    /// The message that is lent, when it lay apart.
    large: Vec<u8>,
    /// The trace context of the message that is lent.
    trace: Option<TraceContext>,
}

enum Fill {
    Ready,
    Empty,
    Closed,
}

impl Mailbox {
    pub(crate) fn new(shared: Arc<MailboxShared>, node: Arc<NodeInner>) -> Mailbox {
        Mailbox {
            shared,
            node,
            front: Batch::default(),
            ports: Vec::new(),
            taken: 0,
            offset: 0,
            large: Vec::new(),
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
    fn may_fill(&self) -> bool {
        self.taken < self.front.entries.len() || self.shared.stirred.load(Ordering::Acquire)
    }

    /// Makes sure that the front holds a message, if there is one; otherwise leaves the waker to be woken.
    fn fill(&mut self, waker: Option<&Waker>) -> Fill {
        if self.taken < self.front.entries.len() {
            return Fill::Ready;
        }
        self.front.clear();
        (self.taken, self.offset) = (0, 0);
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
            if let Some(entry) = queue.batch.entries.pop_front() {
                self.front.bytes.extend(queue.batch.bytes.drain(..entry.bytes()));
                if entry.apart {
                    self.front.apart.extend(queue.batch.apart.pop_front());
                }
                if entry.traced {
                    self.front.traces.extend(queue.batch.traces.pop_front());
                }
                self.front.entries.push_back(entry);
            }
        } else {
            std::mem::swap(&mut self.front, &mut queue.batch);
        }
        let known = self.ports.len();
        self.ports
            .extend_from_slice(&queue.ports[known.min(queue.ports.len())..]);
        for (mine, theirs) in self.ports.iter_mut().zip(&queue.ports) {
            if !Arc::ptr_eq(mine, theirs) {
                *mine = theirs.clone();
            }
        }
        self.shared
            .held
            .store(self.front.entries.len(), Ordering::Relaxed);
        drop(queue);
        self.front.bytes.make_contiguous();
        Fill::Ready
    }

    /// Takes the first message of the front, which `fill` found ready.
    fn take(&mut self) -> Message<'_> {
        let entry = self.front.entries[self.taken];
        if entry.timed {
            self.shared.timed();
        }
        let start = self.offset;
        self.taken += 1;
        self.offset += entry.bytes();
        if entry.apart || !self.large.is_empty() {
            // The one that was lent before this one is done with.
            self.large = match entry.apart {
                true => self.front.apart.pop_front().unwrap_or_default(),
                false => Vec::new(),
            };
        }
        if entry.traced || self.trace.is_some() {
            self.trace = match entry.traced {
                true => self.front.traces.pop_front(),
                false => None,
            };
        }
        self.shared
            .held
            .store(self.front.entries.len() - self.taken, Ordering::Relaxed);
        self.shared.room.wake_all();
        let port = self.ports.get(entry.port as usize).map(Arc::as_ref);
        if let Some(port) = port {
            port.take();
        }
        let payload = if entry.apart {
            &self.large[..]
        } else {
            &self.front.bytes.as_slices().0[start..self.offset]
        };
        Message {
            payload,
            correlation: entry.correlation,
            trace: self.trace.as_ref(),
            at: entry.at,
            port,
            node: &self.node,
        }
    }

    /// Takes the next message and says where its bytes lie, for [`Mailbox::bytes`]: until the next call of this.
    /// Leaves the waker where there is none.
    pub(crate) fn poll_take(&mut self, waker: &Waker) -> Poll<Range<usize>> {
        match self.fill(Some(waker)) {
            Fill::Ready => {
                let start = self.offset;
                self.take();
                Poll::Ready(start..self.offset)
            }
            Fill::Empty | Fill::Closed => Poll::Pending,
        }
    }

    /// The bytes of the message that was taken last, or a part of them.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.front.bytes.as_slices().0[range]
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
        let filled = node.wait_for(deadline, |waker| match self.fill(Some(waker)) {
            Fill::Ready => Poll::Ready(Ok(())),
            Fill::Closed => Poll::Ready(Err(MailboxClosed)),
            Fill::Empty => Poll::Pending,
        });
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
        std::future::poll_fn(|context| match self.fill(Some(context.waker())) {
            Fill::Ready => Poll::Ready(Ok(())),
            Fill::Closed => Poll::Ready(Err(MailboxClosed)),
            Fill::Empty => Poll::Pending,
        })
        .await?;
        Ok(self.take())
    }

    /// As [`Mailbox::recv_async`], without the future.
    pub(crate) fn poll_recv(&mut self, waker: &Waker) -> Poll<Result<Message<'_>, MailboxClosed>> {
        match self.fill(Some(waker)) {
            Fill::Ready => Poll::Ready(Ok(self.take())),
            Fill::Closed => Poll::Ready(Err(MailboxClosed)),
            Fill::Empty => Poll::Pending,
        }
    }

    /// Drives the node once and hands every message of this mailbox that is there to `handle`, lending it where it
    /// lies: in the receive ring, with no copy, when the calling thread is the one that drives. Returns how many.
    ///
    /// `handle` may send; it must not block on this node.
    ///
    /// # Errors
    /// [`MailboxClosed`] when the node is closed and everything has been taken.
    pub fn poll(&mut self, mut handle: impl FnMut(Message<'_>)) -> Result<usize, MailboxClosed> {
        let mut handled = 0;
        loop {
            if self.may_fill() {
                match self.drain(&mut handle) {
                    Ok(drained) => handled += drained,
                    Err(closed) if handled == 0 => return Err(closed),
                    Err(_) => return Ok(handled),
                }
            }
            let Some(mut driver) = self.node.try_drive() else {
                return Ok(handled);
            };
            // Nobody else puts a peer's messages into the queue from here on, so lending keeps their order if none is
            // there.
            if self.may_fill() {
                continue;
            }
            let mut counted = |message: Message<'_>| {
                handled += 1;
                handle(message);
            };
            let mut direct = Some(Direct {
                mailbox: &self.shared,
                handle: &mut counted,
                panic: None,
            });
            self.node.pass(&mut driver, &mut direct);
            let panic = direct.and_then(|direct| direct.panic);
            drop(driver);
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
            return Ok(handled);
        }
    }

    fn drain(&mut self, handle: &mut impl FnMut(Message<'_>)) -> Result<usize, MailboxClosed> {
        let mut handled = 0;
        loop {
            match self.fill(None) {
                Fill::Ready => handle(self.take()),
                Fill::Closed if handled == 0 => return Err(MailboxClosed),
                Fill::Empty | Fill::Closed => return Ok(handled),
            }
            handled += 1;
        }
    }
}

/// A mailbox whose owner is driving the node itself: its messages are lent from where they arrived.
pub(crate) struct Direct<'d> {
    pub(crate) mailbox: &'d Arc<MailboxShared>,
    handle: &'d mut dyn FnMut(Message<'_>),
    /// What the owner's code panicked with. From then on messages go to the queue.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl Direct<'_> {
    /// Lends a message. The frame that it stands in is consumed afterwards, also when the owner's code panics: the
    /// message has been handed out, and is not handed out again.
    #[inline]
    pub(crate) fn lend(&mut self, message: Message<'_>) {
        let handled = catch_unwind(AssertUnwindSafe(|| (self.handle)(message)));
        if let Err(panic) = handled {
            if is_broken(Breakage::RepeatsAfterAPanic) {
                resume_unwind(panic);
            }
            self.panic = Some(panic);
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.node.forget_mailbox(&self.shared);
        self.shared.close();
        loop {
            while self.taken < self.front.entries.len() {
                let end = self.front.entries[self.taken].end;
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
        queue.batch = Batch::default();
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

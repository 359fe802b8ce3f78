//! Addresses: where a message can be sent, how it is sent, and every way in which that can fail.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::breakage::{Breakage, is_broken};
use crate::buffer::Buffer;
use crate::chunk::Chunk;
use crate::codec::Reader;
use crate::dead_letter::{DeadLetter, Reason};
use crate::frame::Kind;
use crate::handshake::CAPABILITY_TRACES;
use crate::lane::Lane;
use crate::large::{LONGEST_ORDINARY, Stream, longest_chunk};
use crate::mailbox::{LocalDelivery, Lost, MailboxShared, Overflow};
use crate::node::NodeInner;
use crate::observe::CreditObservation;
use crate::peer::PeerInner;
use crate::protocol::Asked;
use crate::questions::THIS_NODE;
use crate::ring::{Claim, ClaimError, Position};
use crate::session::Ended;
use crate::trace::{Tagged, Tags};
use crate::wait::WaitList;
use crate::watch::Watchers;

/// Flag of a message frame whose extension starts with a correlation id (u64, little-endian).
pub const FLAG_CORRELATION: u8 = 1;

/// The correlation id in a frame's extension, if its flags announce one.
pub(crate) fn correlation_in(flags: u8, extension: &[u8]) -> Option<u64> {
    if flags & FLAG_CORRELATION == 0 {
        return None;
    }
    Reader::new(extension).u64().ok()
}

/// Why a message was not sent. The message is not delivered and never will be, except as the text says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mailbox has no room for this node now: wait and try again, or use an operation that waits.
    #[error("mailbox {mailbox} is full")]
    MailboxFull {
        /// The mailbox.
        mailbox: String,
    },
    /// The link has no room now: the peer or the network is slower than this sender.
    #[error("the link's send ring is full")]
    RingFull,
    /// The message is longer than the mailbox allows.
    #[error("message of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The message is longer than what the link takes without waiting in between: use an operation that waits, such as
    /// [`Address::send`] or [`Address::send_async`].
    #[error(
        "message of {len} bytes can't be sent or reserved at once: at most {max} can; send it with an operation that waits"
    )]
    TooLongAtOnce {
        /// Its length.
        len: usize,
        /// The longest that goes at once: for a reservation one chunk, otherwise half of the large ring.
        max: usize,
    },
    /// The mailbox was closed: resolve the name again, somebody may have opened it anew.
    #[error("mailbox {mailbox} is closed")]
    MailboxClosed {
        /// The mailbox.
        mailbox: String,
    },
    /// The session with the peer is over: connect again. If the message was already committed, it is a dead letter.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The time given for waiting has passed.
    #[error("no room within {0:?}")]
    TimedOut(Duration),
    /// A typed message has no bytes: its codec says why.
    #[error(transparent)]
    Unencodable(#[from] crate::typed::EncodeError),
}

impl SendError {
    /// Whether waiting may help.
    pub fn is_full(&self) -> bool {
        matches!(self, SendError::MailboxFull { .. } | SendError::RingFull)
    }
}

/// A buffer that [`Address::try_send_buffer`] did not send.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unsent {
    /// Why not.
    pub why: SendError,
    /// The buffer as it was; `None` where others took the room after a part of it was committed: fill another one.
    pub buffer: Option<Buffer>,
}

/// What a handle of a peer stands for: for dead letters, as long as there may be any.
pub(crate) struct Label {
    pub(crate) mailbox: String,
    /// What is spoken to it; `None` for raw bytes.
    pub(crate) protocol: Option<Asked>,
    /// What goes here is a part of a stream, whose halves are told what becomes of it: it is no dead letter.
    pub(crate) carries_stream: bool,
}

/// A mailbox of a peer as this node knows it: its handle on the session, and the credit for it.
///
/// Whoever sends to the handle holds it. So once it is dropped, nothing more is sent there.
pub(crate) struct Route {
    pub(crate) peer: Arc<PeerInner>,
    pub(crate) label: Arc<Label>,
    pub(crate) handle: u16,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
    sent: AtomicU64,
    limit: AtomicU64,
    closed: AtomicBool,
    /// The peer waits to hear that nothing more is sent to the handle.
    forget_when_dropped: AtomicBool,
    /// The longest message that goes on the ordinary lane.
    pub(crate) longest_ordinary: usize,
    /// The large lane holds messages to this mailbox up to here, so what is sent now has to go behind them; 0 when
    /// they are known to be consumed.
    behind: AtomicU64,
    /// A message in several chunks is on its way into the large lane.
    pub(crate) streaming: AtomicBool,
    pub(crate) room: WaitList,
    pub(crate) watchers: Watchers,
}

impl Drop for Route {
    fn drop(&mut self) {
        if *self.forget_when_dropped.get_mut() {
            self.peer.forget(self.handle);
        }
    }
}

/// What a peer says of one of its mailboxes when it is resolved.
pub(crate) struct Terms {
    pub(crate) handle: u16,
    pub(crate) limit: u64,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
}

impl Route {
    pub(crate) fn new(peer: Arc<PeerInner>, label: Label, terms: Terms) -> Route {
        let ordinary = peer.send.ring(Lane::Ordinary).max_body();
        peer.large.allow(terms.max_message);
        Route {
            longest_ordinary: LONGEST_ORDINARY.min(ordinary - Tags::LONGEST),
            peer,
            label: Arc::new(label),
            handle: terms.handle,
            overflow: terms.overflow,
            max_message: terms.max_message,
            sent: AtomicU64::new(0),
            limit: AtomicU64::new(terms.limit),
            closed: AtomicBool::new(false),
            forget_when_dropped: AtomicBool::new(false),
            behind: AtomicU64::new(0),
            streaming: AtomicBool::new(false),
            room: WaitList::default(),
            watchers: Watchers::default(),
        }
    }

    pub(crate) fn observe(&self) -> CreditObservation {
        let (sent, limit) = (
            self.sent.load(Ordering::Relaxed),
            self.limit.load(Ordering::Relaxed),
        );
        CreditObservation {
            mailbox: self.label.mailbox.clone(),
            sent,
            left: (limit != u64::MAX).then(|| limit.saturating_sub(sent)),
        }
    }

    /// Takes over a grant of credit. A grant never goes back.
    pub(crate) fn grant(&self, limit: u64) {
        self.limit.fetch_max(limit, Ordering::AcqRel);
        self.room.wake_all();
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.wake_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The peer has closed its mailbox: it is told when nothing more is sent there.
    pub(crate) fn forget_when_dropped(&self) {
        self.forget_when_dropped.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn take_credit(&self) -> bool {
        let mut sent = self.sent.load(Ordering::Relaxed);
        loop {
            if sent >= self.limit.load(Ordering::Acquire) && !is_broken(Breakage::SendsBeyondCredit) {
                return false;
            }
            match self
                .sent
                .compare_exchange_weak(sent, sent + 1, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => sent = now,
            }
        }
    }

    pub(crate) fn give_credit_back(&self) {
        self.sent.fetch_sub(1, Ordering::Relaxed);
        self.room.wake_all();
    }

    /// Takes credit; false when the mailbox's policy drops the message.
    #[inline]
    pub(crate) fn take_credit_or_drop(&self) -> Result<bool, SendError> {
        if self.take_credit() {
            return Ok(true);
        }
        self.without_credit()
    }

    #[cold]
    fn without_credit(&self) -> Result<bool, SendError> {
        if self.overflow == Overflow::DropNewest {
            return Ok(false);
        }
        Err(SendError::MailboxFull {
            mailbox: self.label.mailbox.clone(),
        })
    }

    /// Whether a message of this length may be sent at all.
    #[inline]
    pub(crate) fn check(&self, len: usize) -> Result<(), SendError> {
        if len > self.max_message as usize || self.is_closed() {
            return Err(self.why_refused(len));
        }
        Ok(())
    }

    #[cold]
    fn why_refused(&self, len: usize) -> SendError {
        let max = self.max_message as usize;
        match len > max {
            true => SendError::TooLarge { len, max },
            false => self.why_closed(),
        }
    }

    /// Whether a message of this length goes in several chunks.
    #[inline]
    fn is_streamed(&self, len: usize) -> bool {
        len > self.longest_ordinary && len > longest_chunk(self.peer.send.ring(Lane::Large))
    }

    /// Takes credit and a slot. `None` when the mailbox's policy drops the message.
    ///
    /// Always inline: a slot that is handed up through memory costs more than all the rest.
    #[inline(always)]
    pub(crate) fn claim<T: Tagged>(&self, len: usize, tags: T) -> Result<Option<Slot<'_, T>>, SendError> {
        self.check(len)?;
        let tags = tags.understood(|| self.reads_traces());
        let large = len > self.longest_ordinary || self.is_behind();
        if !self.take_credit_or_drop()? {
            return Ok(None);
        }
        let claimed = if large {
            self.claim_chunk(len, &tags.tags())
        } else {
            let claim = self.peer.send.ring(Lane::Ordinary).claim(tags.tags().len() + len);
            claim.map(|claim| (claim, Place::Ordinary))
        };
        match claimed {
            Ok((claim, place)) => Ok(Some(Slot {
                claim,
                place,
                route: self,
                tags,
            })),
            Err(error) => Err(self.not_claimed(len, &error)),
        }
    }

    #[cold]
    fn not_claimed(&self, len: usize, error: &ClaimError) -> SendError {
        self.give_credit_back();
        match error {
            ClaimError::Full { .. } => SendError::RingFull,
            ClaimError::TooLarge { .. } => SendError::TooLongAtOnce {
                len,
                max: longest_chunk(self.peer.send.ring(Lane::Large)),
            },
            ClaimError::Closed => self.why_closed(),
        }
    }

    /// Commits a message of two parts, one after the other, and leaves the pushing to the caller.
    #[inline]
    pub(crate) fn commit_parts(&self, head: &[u8], rest: &[u8]) -> Result<(), SendError> {
        self.commit_with(head.len() + rest.len(), |payload| {
            let (first, second) = payload.split_at_mut(head.len());
            first.copy_from_slice(head);
            second.copy_from_slice(rest);
        })
    }

    /// Commits a message of this length, which `write` fills in, and leaves the pushing to the caller.
    #[inline]
    pub(crate) fn commit_with(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<(), SendError> {
        if let Some(mut slot) = self.claim(len, None)? {
            write(slot.payload());
            slot.commit();
        }
        Ok(())
    }

    /// Whether the peer reads trace contexts.
    pub(crate) fn reads_traces(&self) -> bool {
        self.peer.identity.capabilities & CAPABILITY_TRACES != 0
    }

    /// Whether messages to this mailbox are in the large lane, so that the next must not go past them.
    #[inline]
    fn is_behind(&self) -> bool {
        let until = self.behind.load(Ordering::Acquire);
        until != 0 && self.is_still_behind(until)
    }

    #[cold]
    fn is_still_behind(&self, until: Position) -> bool {
        if self.peer.send.ring(Lane::Large).released() < until {
            return true;
        }
        // Should somebody have sent another in the meantime, that one's end stays.
        let _ = self
            .behind
            .compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed);
        false
    }

    #[cold]
    fn claim_chunk(&self, len: usize, tags: &Tags<'_>) -> Result<(Claim<'_>, Place), ClaimError> {
        let ring = self.peer.send.ring(Lane::Large);
        let max = longest_chunk(ring);
        if len > max {
            return Err(ClaimError::TooLarge { len, max });
        }
        let claim = ring.claim(Chunk::extension_len(tags) + len)?;
        let place = Place::Large {
            after: self.keep_place(&claim),
            tell: len <= self.longest_ordinary,
        };
        Ok((claim, place))
    }

    /// The last frame of a message has been claimed in the large lane: what is sent to this mailbox from now on goes
    /// behind it. Returns up to where the ordinary lane has to be consumed before the message is delivered.
    pub(crate) fn keep_place(&self, claim: &Claim<'_>) -> Position {
        self.behind.fetch_max(claim.end(), Ordering::AcqRel);
        self.peer.send.ring(Lane::Ordinary).claimed()
    }

    pub(crate) fn is_worth_waiting(&self, error: &SendError) -> bool {
        is_worth_waiting(error, self.overflow)
    }

    pub(crate) fn register(&self, error: &SendError, waker: &Waker) {
        match error {
            SendError::RingFull => {
                self.peer.room.register(waker);
                self.peer.large.room.register(waker);
            }
            _ => self.room.register(waker),
        }
    }

    #[cold]
    pub(crate) fn why_closed(&self) -> SendError {
        match self.peer.ended() {
            Some(ended) => SendError::SessionOver(ended),
            None => SendError::MailboxClosed {
                mailbox: self.label.mailbox.clone(),
            },
        }
    }

    pub(crate) fn drop_newest(&self, len: usize, correlation: Option<u64>) {
        self.peer
            .node
            .questions
            .not_taken(correlation, self.peer.session_id);
        self.peer.report(DeadLetter {
            node: Some(self.peer.identity.node.clone()),
            protocol: self.label.protocol.as_ref().map(|asked| asked.name.clone()),
            age: Some(Duration::ZERO),
            correlation,
            ..DeadLetter::new(Reason::DroppedNewest, self.label.mailbox.clone(), len)
        });
    }
}

fn is_worth_waiting(error: &SendError, overflow: Overflow) -> bool {
    matches!(error, SendError::RingFull)
        || matches!(error, SendError::MailboxFull { .. }) && overflow == Overflow::Wait
}

/// Where a message stands.
#[derive(Clone, Copy)]
enum Place {
    /// In the ordinary lane, as one message frame.
    Ordinary,
    /// In the large lane, as one chunk.
    Large {
        /// See [`Chunk::after`].
        after: Position,
        /// See [`Chunk::tell`]: set where a short message goes behind a large one, so that the next need not.
        tell: bool,
    },
}

/// Credit and room for one message that fits a frame.
pub(crate) struct Slot<'r, T> {
    claim: Claim<'r>,
    place: Place,
    route: &'r Route,
    tags: T,
}

impl<'r, T: Tagged> Slot<'r, T> {
    #[inline]
    fn extension_len(&self) -> usize {
        match self.place {
            Place::Ordinary => self.tags.tags().len(),
            Place::Large { .. } => Chunk::extension_len(&self.tags.tags()),
        }
    }

    #[inline]
    pub(crate) fn payload(&mut self) -> &mut [u8] {
        let extension = self.extension_len();
        &mut self.claim.body()[extension..]
    }

    pub(crate) fn route(&self) -> &'r Route {
        self.route
    }

    /// Gives credit and room back: the room travels as padding.
    pub(crate) fn give_back(self) {
        let Slot { claim, route, .. } = self;
        drop(claim);
        route.give_credit_back();
        route.peer.flush();
    }

    /// Publishes the message, whose payload is the buffer's: lent, where it is long enough for the large lane.
    fn commit_buffer(mut self, buffer: &Buffer) {
        match self.place {
            // Short enough for the ordinary lane, if only others of its mailbox were not before it in the large one.
            Place::Ordinary | Place::Large { tell: true, .. } => {
                self.payload().copy_from_slice(buffer);
                self.commit();
            }
            Place::Large { after, tell } => self.commit_chunk(after, tell, Some(buffer)),
        }
    }

    /// Publishes the message.
    #[inline(always)]
    pub(crate) fn commit(mut self) {
        match self.place {
            Place::Ordinary => {
                let tags = self.tags.tags();
                let extension = tags.len();
                if extension > 0 {
                    tags.encode(&mut self.claim.body()[..extension]);
                }
                let handle = self.route.handle;
                self.claim
                    .commit(Kind::Message, tags.flags(), extension as u8, handle);
            }
            Place::Large { after, tell } => self.commit_chunk(after, tell, None),
        }
    }

    #[cold]
    fn commit_chunk(mut self, after: Position, tell: bool, buffer: Option<&Buffer>) {
        let extension = self.extension_len();
        let tags = self.tags.tags();
        let body = self.claim.body();
        let chunk = Chunk {
            total: (body.len() - extension) as u32,
            offset: 0,
            after,
            correlation: tags.correlation,
            trace: tags.trace.copied(),
            abandoned: false,
            tell,
        };
        chunk.encode(&mut body[..extension]);
        let (flags, extension, handle) = (chunk.flags(), extension as u8, self.route.handle);
        match buffer {
            Some(buffer) => {
                let part = buffer.part(0..buffer.len());
                self.claim
                    .commit_lent(Kind::Chunk, flags, extension, handle, part);
            }
            None => self.claim.commit(Kind::Chunk, flags, extension, handle),
        }
    }
}

#[derive(Clone)]
pub(crate) enum Target {
    Remote(Arc<Route>),
    Local(Arc<MailboxShared>, Arc<NodeInner>),
}

/// Where messages can be sent: a mailbox of a peer, or of this node.
///
/// Cheap to clone; any number of threads may send through it at once. Messages of one sender to one mailbox arrive in
/// the order in which they were sent; nothing is promised between different senders. That a send succeeded means that
/// the message was committed to the session: it is delivered exactly once, or becomes a dead letter here.
#[derive(Clone)]
pub struct Address {
    pub(crate) target: Target,
}

impl Address {
    /// The mailbox's name.
    pub fn mailbox(&self) -> &str {
        match &self.target {
            Target::Remote(route) => &route.label.mailbox,
            Target::Local(mailbox, _) => &mailbox.name,
        }
    }

    /// The handle that its messages carry, if they go to a peer.
    #[cfg(feature = "conformance")]
    pub(crate) fn handle(&self) -> Option<u16> {
        match &self.target {
            Target::Remote(route) => Some(route.handle),
            Target::Local(..) => None,
        }
    }

    /// The peer's node; `None` when the mailbox is on this node.
    pub fn node(&self) -> Option<&str> {
        match &self.target {
            Target::Remote(route) => Some(&route.peer.identity.node),
            Target::Local(..) => None,
        }
    }

    /// Sends, or says at once why not. Never blocks. A message that takes several chunks is taken as a whole or not at
    /// all; one that is longer than half of the link's large ring (2 MiB by default) has to be sent by an operation
    /// that waits.
    ///
    /// # Errors
    /// Any [`SendError`] but [`SendError::TimedOut`].
    #[inline]
    pub fn try_send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.try_send_with(payload, None)
    }

    /// As [`Address::try_send`], with a correlation id that travels with the message, and is in its dead letter if it comes
    /// to that. Choose neither 0, which a letter that comes back from the receiver can't tell from none, nor one with the
    /// highest bit, which questions have ([`crate::ask`]).
    ///
    /// # Errors
    /// As [`Address::try_send`].
    #[inline]
    pub fn try_send_with(&self, payload: &[u8], correlation: Option<u64>) -> Result<(), SendError> {
        self.try_send_tagged(payload, correlation)
    }

    #[inline]
    pub(crate) fn try_send_tagged(&self, payload: &[u8], tags: impl Tagged) -> Result<(), SendError> {
        match &self.target {
            Target::Remote(route) if route.is_streamed(payload.len()) => {
                Stream::new(route, payload, tags.tags()).send_at_once()
            }
            Target::Remote(route) => match route.claim(payload.len(), tags)? {
                Some(mut slot) => {
                    slot.payload().copy_from_slice(payload);
                    slot.commit();
                    route.peer.flush();
                    Ok(())
                }
                None => {
                    route.drop_newest(payload.len(), tags.tags().correlation);
                    Ok(())
                }
            },
            Target::Local(mailbox, node) => send_locally(mailbox, node, payload, tags.tags()),
        }
    }

    /// As [`Address::try_send`], of a buffer, which is not copied at this end where the link sends from memory itself (over
    /// RDMA) and the message is longer than 16 KiB. Elsewhere it is, as any slice would be. The buffer is back with its node when
    /// the peer has taken the message.
    ///
    /// # Errors
    /// As [`Address::try_send`], with the buffer.
    pub fn try_send_buffer(&self, buffer: Buffer) -> Result<(), Unsent> {
        self.try_send_buffer_with(buffer, None)
    }

    /// As [`Address::try_send_buffer`], with a correlation id that travels with the message.
    ///
    /// # Errors
    /// As [`Address::try_send_buffer`].
    pub fn try_send_buffer_with(&self, buffer: Buffer, correlation: Option<u64>) -> Result<(), Unsent> {
        self.try_lend(&buffer, correlation).map_err(|why| Unsent {
            why,
            buffer: buffer.unless_lent(),
        })
    }

    fn try_lend(&self, buffer: &Buffer, tags: impl Tagged) -> Result<(), SendError> {
        match &self.target {
            Target::Remote(route) if route.is_streamed(buffer.len()) => {
                Stream::lending(route, buffer, tags.tags()).send_at_once()
            }
            Target::Remote(route) => match route.claim(buffer.len(), tags)? {
                Some(slot) => {
                    slot.commit_buffer(buffer);
                    route.peer.flush();
                    Ok(())
                }
                None => {
                    route.drop_newest(buffer.len(), tags.tags().correlation);
                    Ok(())
                }
            },
            Target::Local(mailbox, node) => send_locally(mailbox, node, buffer, tags.tags()),
        }
    }

    /// As [`Address::send`], of a buffer: see [`Address::try_send_buffer`].
    ///
    /// # Errors
    /// As [`Address::send`]. The buffer is not given back: ask the node for another.
    pub fn send_buffer(&self, buffer: Buffer) -> Result<(), SendError> {
        self.send_buffer_until(&buffer, None, None)
    }

    /// As [`Address::send_buffer`], for at most `timeout`, with a correlation id if one is given.
    ///
    /// # Errors
    /// As [`Address::send_buffer`], and [`SendError::TimedOut`].
    pub fn send_buffer_timeout(
        &self,
        buffer: Buffer,
        correlation: Option<u64>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_buffer_until(&buffer, correlation, Some(timeout))
    }

    fn send_buffer_until(
        &self,
        buffer: &Buffer,
        tags: impl Tagged,
        timeout: Option<Duration>,
    ) -> Result<(), SendError> {
        if let Some(mut stream) = self.lending(buffer, &tags) {
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            let sent = self.driver().wait_for(deadline, |waker| stream.poll(waker));
            return sent.unwrap_or(Err(SendError::TimedOut(timeout.unwrap_or_default())));
        }
        self.waiting_for_room(timeout, || self.try_lend(buffer, tags))
    }

    /// As [`Address::send_async`], of a buffer: see [`Address::try_send_buffer`].
    ///
    /// # Errors
    /// As [`Address::send_buffer`].
    pub async fn send_buffer_async(&self, buffer: Buffer) -> Result<(), SendError> {
        if let Some(mut stream) = self.lending(&buffer, &None::<u64>) {
            return poll_fn(|context| stream.poll(context.waker())).await;
        }
        poll_fn(|context| self.attempt_with(context.waker(), || self.try_lend(&buffer, None::<u64>))).await
    }

    fn lending<'m>(&'m self, buffer: &'m Buffer, tags: &'m impl Tagged) -> Option<Stream<'m>> {
        match &self.target {
            Target::Remote(route) if route.is_streamed(buffer.len()) => {
                Some(Stream::lending(route, buffer, tags.tags()))
            }
            Target::Remote(_) | Target::Local(..) => None,
        }
    }

    /// Sends the `len` bytes that `write` writes in place, or says at once why not. What `write` refuses is not sent.
    pub(crate) fn try_write(
        &self,
        len: usize,
        tags: impl Tagged,
        write: impl FnOnce(&mut [u8]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let route = match &self.target {
            Target::Remote(route) if !route.is_streamed(len) => route,
            // Nowhere to write in place: in several chunks, or in a queue of this node.
            Target::Remote(_) | Target::Local(..) => {
                let mut payload = vec![0; len];
                write(&mut payload)?;
                return self.try_send_tagged(&payload, tags);
            }
        };
        let Some(mut slot) = route.claim(len, tags)? else {
            route.drop_newest(len, tags.tags().correlation);
            return Ok(());
        };
        if let Err(error) = write(slot.payload()) {
            slot.give_back();
            return Err(error);
        }
        slot.commit();
        route.peer.flush();
        Ok(())
    }

    /// Sends, waiting for room as long as it takes if the mailbox's policy is to wait. A message longer than the link's
    /// rings goes piece by piece, as the peer makes room.
    ///
    /// # Errors
    /// [`SendError::MailboxFull`] under [`Overflow::Fail`] alone; otherwise what no waiting mends. When a session ends,
    /// or a mailbox is closed, while a long message is half-way, it is reported by this error and by no dead letter.
    pub fn send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.send_until(payload, None, None)
    }

    /// As [`Address::send`], for at most `timeout`, with a correlation id if one is given.
    ///
    /// # Errors
    /// As [`Address::send`], and [`SendError::TimedOut`].
    pub fn send_timeout(
        &self,
        payload: &[u8],
        correlation: Option<u64>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_until(payload, correlation, Some(timeout))
    }

    pub(crate) fn send_until(
        &self,
        payload: &[u8],
        tags: impl Tagged,
        timeout: Option<Duration>,
    ) -> Result<(), SendError> {
        if let Some(mut stream) = self.stream(payload, &tags) {
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            let sent = self.driver().wait_for(deadline, |waker| stream.poll(waker));
            return sent.unwrap_or(Err(SendError::TimedOut(timeout.unwrap_or_default())));
        }
        self.waiting_for_room(timeout, || self.try_send_tagged(payload, tags))
    }

    /// Attempts to send until it is done, there is no room within `timeout`, or no waiting mends it.
    pub(crate) fn waiting_for_room(
        &self,
        timeout: Option<Duration>,
        attempt: impl Fn() -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        match attempt() {
            Err(error) if self.worth_waiting(&error) => {}
            done => return done,
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let sent = self
            .driver()
            .wait_for(deadline, |waker| self.attempt_with(waker, &attempt));
        sent.unwrap_or(Err(SendError::TimedOut(timeout.unwrap_or_default())))
    }

    /// Whether a message of this length is put into several frames.
    pub(crate) fn goes_in_several_chunks(&self, len: usize) -> bool {
        matches!(&self.target, Target::Remote(route) if route.is_streamed(len))
    }

    /// The stream in which a message has to be sent; `None` when it fits one frame.
    fn stream<'m>(&'m self, payload: &'m [u8], tags: &'m impl Tagged) -> Option<Stream<'m>> {
        match &self.target {
            Target::Remote(route) if route.is_streamed(payload.len()) => {
                Some(Stream::new(route, payload, tags.tags()))
            }
            Target::Remote(_) | Target::Local(..) => None,
        }
    }

    /// As [`Address::send`], as a future that any executor can run. Cancelled before it is done, it has sent nothing:
    /// of a long message that was half-way the peer forgets what it has. While such a message is half-way, others in
    /// several chunks to the same mailbox wait for it, so poll the future to its end or drop it.
    ///
    /// # Errors
    /// As [`Address::send`].
    pub async fn send_async(&self, payload: &[u8]) -> Result<(), SendError> {
        self.send_tagged(payload, None).await
    }

    pub(crate) async fn send_tagged(&self, payload: &[u8], tags: impl Tagged) -> Result<(), SendError> {
        if let Some(mut stream) = self.stream(payload, &tags) {
            return poll_fn(|context| stream.poll(context.waker())).await;
        }
        poll_fn(|context| self.attempt_with(context.waker(), || self.try_send_tagged(payload, tags))).await
    }

    /// Several messages that leave together: commits each, pushes once at the end or when much has piled up.
    pub fn batch(&self) -> SendBatch<'_> {
        SendBatch {
            address: self,
            unpushed: 0,
        }
    }

    pub(crate) fn driver(&self) -> &NodeInner {
        match &self.target {
            Target::Remote(route) => &route.peer.node,
            Target::Local(_, node) => node,
        }
    }

    fn worth_waiting(&self, error: &SendError) -> bool {
        let overflow = match &self.target {
            Target::Remote(route) => route.overflow,
            Target::Local(mailbox, _) => mailbox.options.overflow,
        };
        is_worth_waiting(error, overflow)
    }

    fn register(&self, error: &SendError, waker: &Waker) {
        match &self.target {
            Target::Remote(route) => route.register(error, waker),
            Target::Local(mailbox, _) => mailbox.room.register(waker),
        }
    }

    /// One attempt to send; where there is no room, the waker is registered and the attempt made once more.
    pub(crate) fn attempt_with<T>(
        &self,
        waker: &Waker,
        attempt: impl Fn() -> Result<T, SendError>,
    ) -> Poll<Result<T, SendError>> {
        let mut registered = None;
        loop {
            match attempt() {
                Err(error) if self.worth_waiting(&error) => {
                    if registered.as_ref() == Some(&error) {
                        return Poll::Pending;
                    }
                    self.register(&error, waker);
                    registered = Some(error);
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("node", &self.node())
            .field("mailbox", &self.mailbox())
            .finish()
    }
}

fn send_locally(
    mailbox: &Arc<MailboxShared>,
    node: &NodeInner,
    payload: &[u8],
    tags: Tags<'_>,
) -> Result<(), SendError> {
    mailbox.check_len(payload.len())?;
    match mailbox.deliver_locally(tags, payload) {
        LocalDelivery::Done => Ok(()),
        LocalDelivery::Closed => Err(SendError::MailboxClosed {
            mailbox: mailbox.name.clone(),
        }),
        LocalDelivery::Full if mailbox.options.overflow == Overflow::DropNewest => {
            node.questions.not_taken(tags.correlation, THIS_NODE);
            mailbox.report(Lost {
                reason: Reason::DroppedNewest,
                from: None,
                correlation: tags.correlation,
                len: payload.len(),
                age: Some(Duration::ZERO),
            });
            Ok(())
        }
        LocalDelivery::Full => Err(SendError::MailboxFull {
            mailbox: mailbox.name.clone(),
        }),
    }
}

/// Several messages that leave together. Dropping it pushes what is left.
pub struct SendBatch<'a> {
    address: &'a Address,
    unpushed: usize,
}

/// Committed bytes after which a batch is pushed without being asked: enough to make the cost of a push small.
const BATCH_BYTES: usize = 32 << 10;

impl SendBatch<'_> {
    /// Commits a message; it leaves with the batch. Never blocks; when there is no room, pushes and says so.
    ///
    /// # Errors
    /// As [`Address::try_send`].
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        let Target::Remote(route) = &self.address.target else {
            return self.address.try_send(payload);
        };
        if route.is_streamed(payload.len()) {
            self.flush();
            return self.address.try_send(payload);
        }
        match route.claim(payload.len(), None) {
            Ok(Some(mut slot)) => {
                slot.payload().copy_from_slice(payload);
                slot.commit();
                self.unpushed += crate::frame::size(payload.len());
                if self.unpushed >= BATCH_BYTES {
                    self.flush();
                }
                Ok(())
            }
            Ok(None) => {
                route.drop_newest(payload.len(), None);
                Ok(())
            }
            Err(error) => {
                self.flush();
                Err(error)
            }
        }
    }

    /// As [`SendBatch::try_send`], waiting for room as long as it takes if the policy is to wait.
    ///
    /// # Errors
    /// As [`Address::send`].
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        match self.try_send(payload) {
            Err(SendError::TooLongAtOnce { .. }) => self.address.send(payload),
            Err(error) if self.address.worth_waiting(&error) => self.address.send(payload),
            done => done,
        }
    }

    /// Pushes what was committed.
    pub fn flush(&mut self) {
        if self.unpushed > 0
            && let Target::Remote(route) = &self.address.target
        {
            route.peer.flush();
        }
        self.unpushed = 0;
    }
}

impl Drop for SendBatch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

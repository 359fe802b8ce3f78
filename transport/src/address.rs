//! Addresses: where a message can be sent, how it is sent, and every way in which that can fail.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::codec::Reader;
use crate::dead_letter::{DeadLetter, Reason};
use crate::frame::Kind;
use crate::lane::Lane;
use crate::mailbox::{LocalDelivery, MailboxShared, Overflow};
use crate::node::NodeInner;
use crate::peer::PeerInner;
use crate::ring::{Claim, ClaimError};
use crate::session::Ended;
use crate::wait::WaitList;

/// Flag of a message frame whose extension starts with a correlation id (u64, little-endian).
pub const FLAG_CORRELATION: u8 = 1;

/// Bytes of the extension that the flags announce.
pub(crate) const fn extension_len(correlation: Option<u64>) -> usize {
    if correlation.is_some() { 8 } else { 0 }
}

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
    /// The message is longer than the mailbox or the frame allows.
    #[error("message of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest allowed.
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

/// A mailbox of a peer as this node knows it: its handle on the session, and the credit for it.
pub(crate) struct Route {
    pub(crate) peer: Arc<PeerInner>,
    pub(crate) mailbox: String,
    pub(crate) handle: u16,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
    sent: AtomicU64,
    limit: AtomicU64,
    closed: AtomicBool,
    pub(crate) room: WaitList,
}

/// What a peer says of one of its mailboxes when it is resolved.
pub(crate) struct Terms {
    pub(crate) handle: u16,
    pub(crate) limit: u64,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
}

impl Route {
    pub(crate) fn new(peer: Arc<PeerInner>, mailbox: String, terms: Terms) -> Route {
        Route {
            peer,
            mailbox,
            handle: terms.handle,
            overflow: terms.overflow,
            max_message: terms.max_message,
            sent: AtomicU64::new(0),
            limit: AtomicU64::new(terms.limit),
            closed: AtomicBool::new(false),
            room: WaitList::default(),
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

    #[inline]
    fn take_credit(&self) -> bool {
        let mut sent = self.sent.load(Ordering::Relaxed);
        loop {
            if sent >= self.limit.load(Ordering::Acquire) {
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

    fn give_credit_back(&self) {
        self.sent.fetch_sub(1, Ordering::Relaxed);
        self.room.wake_all();
    }

    /// Takes credit and a slot. `None` when the mailbox's policy drops the message.
    #[inline]
    fn claim(&self, len: usize, correlation: Option<u64>) -> Result<Option<Claim<'_>>, SendError> {
        if len > self.max_message as usize {
            return Err(SendError::TooLarge {
                len,
                max: self.max_message as usize,
            });
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(self.why_closed());
        }
        if !self.take_credit() {
            if self.overflow == Overflow::DropNewest {
                return Ok(None);
            }
            return Err(SendError::MailboxFull {
                mailbox: self.mailbox.clone(),
            });
        }
        let extension = extension_len(correlation);
        match self.peer.send.ring(Lane::Ordinary).claim(extension + len) {
            Ok(claim) => Ok(Some(claim)),
            Err(error) => {
                self.give_credit_back();
                Err(match error {
                    ClaimError::Full { .. } => SendError::RingFull,
                    ClaimError::TooLarge { max, .. } => SendError::TooLarge {
                        len,
                        max: max - extension,
                    },
                    ClaimError::Closed => self.why_closed(),
                })
            }
        }
    }

    #[cold]
    fn why_closed(&self) -> SendError {
        match self.peer.ended() {
            Some(ended) => SendError::SessionOver(ended),
            None => SendError::MailboxClosed {
                mailbox: self.mailbox.clone(),
            },
        }
    }

    fn drop_newest(&self, len: usize, correlation: Option<u64>) {
        self.peer.report(DeadLetter {
            reason: Reason::DroppedNewest,
            node: Some(self.peer.identity.node.clone()),
            mailbox: self.mailbox.clone(),
            correlation,
            len,
            payload: None,
        });
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
            Target::Remote(route) => &route.mailbox,
            Target::Local(mailbox, _) => &mailbox.name,
        }
    }

    /// The peer's node; `None` when the mailbox is on this node.
    pub fn node(&self) -> Option<&str> {
        match &self.target {
            Target::Remote(route) => Some(&route.peer.identity.node),
            Target::Local(..) => None,
        }
    }

    /// Sends, or says at once why not. Never blocks.
    ///
    /// # Errors
    /// Any [`SendError`] but [`SendError::TimedOut`].
    #[inline]
    pub fn try_send(&self, payload: &[u8]) -> Result<(), SendError> {
        self.try_send_with(payload, None)
    }

    /// As [`Address::try_send`], with a correlation id that travels with the message.
    ///
    /// # Errors
    /// As [`Address::try_send`].
    #[inline]
    pub fn try_send_with(&self, payload: &[u8], correlation: Option<u64>) -> Result<(), SendError> {
        match &self.target {
            Target::Remote(route) => match route.claim(payload.len(), correlation)? {
                Some(claim) => {
                    commit(claim, route, correlation, |body| body.copy_from_slice(payload));
                    route.peer.flush();
                    Ok(())
                }
                None => {
                    route.drop_newest(payload.len(), correlation);
                    Ok(())
                }
            },
            Target::Local(mailbox, _) => send_locally(mailbox, payload, correlation),
        }
    }

    /// Sends the `len` bytes that `write` writes in place, or says at once why not. What `write` refuses is not sent.
    pub(crate) fn try_write(
        &self,
        len: usize,
        correlation: Option<u64>,
        write: impl FnOnce(&mut [u8]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let route = match &self.target {
            Target::Remote(route) => route,
            Target::Local(mailbox, _) => {
                let mut payload = vec![0; len];
                write(&mut payload)?;
                return send_locally(mailbox, &payload, correlation);
            }
        };
        let Some(mut claim) = route.claim(len, correlation)? else {
            route.drop_newest(len, correlation);
            return Ok(());
        };
        if let Err(error) = write(&mut claim.body()[extension_len(correlation)..]) {
            drop(claim);
            route.give_credit_back();
            route.peer.flush();
            return Err(error);
        }
        commit(claim, route, correlation, |_| {});
        route.peer.flush();
        Ok(())
    }

    /// Reserves room for a message of `len` bytes to be written in place, or says at once why not.
    ///
    /// # Errors
    /// As [`Address::try_send`]. Reserving is possible in mailboxes of peers alone: [`SendError::MailboxClosed`] for
    /// one of this node.
    pub fn try_reserve(&self, len: usize) -> Result<Permit<'_>, SendError> {
        let Target::Remote(route) = &self.target else {
            return Err(SendError::MailboxClosed {
                mailbox: self.mailbox().to_owned(),
            });
        };
        match route.claim(len, None)? {
            Some(claim) => Ok(Permit {
                claim: Some(claim),
                route,
            }),
            None => Err(SendError::MailboxFull {
                mailbox: route.mailbox.clone(),
            }),
        }
    }

    /// Sends, waiting for room as long as it takes if the mailbox's policy is to wait.
    ///
    /// # Errors
    /// [`SendError::MailboxFull`] under [`Overflow::Fail`] alone; otherwise what no waiting mends.
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

    fn send_until(
        &self,
        payload: &[u8],
        correlation: Option<u64>,
        timeout: Option<Duration>,
    ) -> Result<(), SendError> {
        self.waiting_for_room(timeout, || self.try_send_with(payload, correlation))
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

    /// As [`Address::send`], as a future that any executor can run. Cancelled before it is done, it has sent nothing.
    ///
    /// # Errors
    /// As [`Address::send`].
    pub async fn send_async(&self, payload: &[u8]) -> Result<(), SendError> {
        poll_fn(|context| self.attempt_with(context.waker(), || self.try_send(payload))).await
    }

    /// Reserves room for a message of `len` bytes, waiting for it if the policy is to wait: back-pressure before the
    /// message is made.
    ///
    /// # Errors
    /// As [`Address::send`].
    pub fn reserve(&self, len: usize) -> Result<Permit<'_>, SendError> {
        let waited = self
            .driver()
            .wait_for(None, |waker| self.attempt_reserve(len, waker));
        waited.unwrap_or(Err(SendError::RingFull))
    }

    /// As [`Address::reserve`], as a future.
    ///
    /// # Errors
    /// As [`Address::send`].
    pub async fn reserve_async(&self, len: usize) -> Result<Permit<'_>, SendError> {
        poll_fn(|context| self.attempt_reserve(len, context.waker())).await
    }

    /// Several messages that leave together: commits each, pushes once at the end or when much has piled up.
    pub fn batch(&self) -> SendBatch<'_> {
        SendBatch {
            address: self,
            unpushed: 0,
        }
    }

    fn driver(&self) -> &NodeInner {
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
        matches!(error, SendError::RingFull)
            || matches!(error, SendError::MailboxFull { .. }) && overflow == Overflow::Wait
    }

    fn register(&self, error: &SendError, waker: &Waker) {
        match &self.target {
            Target::Remote(route) => match error {
                SendError::RingFull => route.peer.room.register(waker),
                _ => route.room.register(waker),
            },
            Target::Local(mailbox, _) => mailbox.room.register(waker),
        }
    }

    /// One attempt to send; where there is no room, the waker is registered and the attempt made once more.
    pub(crate) fn attempt_with(
        &self,
        waker: &Waker,
        attempt: impl Fn() -> Result<(), SendError>,
    ) -> Poll<Result<(), SendError>> {
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

    fn attempt_reserve(&self, len: usize, waker: &Waker) -> Poll<Result<Permit<'_>, SendError>> {
        let mut registered = None;
        loop {
            match self.try_reserve(len) {
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

#[inline]
fn commit(mut claim: Claim<'_>, route: &Route, correlation: Option<u64>, write: impl FnOnce(&mut [u8])) {
    let extension = extension_len(correlation);
    let (head, body) = claim.body().split_at_mut(extension);
    write(body);
    let mut flags = 0;
    if let Some(correlation) = correlation {
        flags |= FLAG_CORRELATION;
        head.copy_from_slice(&correlation.to_le_bytes());
    }
    claim.commit(Kind::Message, flags, extension as u8, route.handle);
}

fn send_locally(
    mailbox: &Arc<MailboxShared>,
    payload: &[u8],
    correlation: Option<u64>,
) -> Result<(), SendError> {
    let max = mailbox.options.max_message as usize;
    if payload.len() > max {
        return Err(SendError::TooLarge {
            len: payload.len(),
            max,
        });
    }
    match mailbox.deliver_locally(correlation, payload) {
        LocalDelivery::Done => Ok(()),
        LocalDelivery::Closed => Err(SendError::MailboxClosed {
            mailbox: mailbox.name.clone(),
        }),
        LocalDelivery::Full if mailbox.options.overflow == Overflow::DropNewest => {
            mailbox.report(Reason::DroppedNewest, correlation, payload.len());
            Ok(())
        }
        LocalDelivery::Full => Err(SendError::MailboxFull {
            mailbox: mailbox.name.clone(),
        }),
    }
}

/// Room for one message in the peer's mailbox and in the link: write it in place, then send it. Dropped, it gives
/// the credit back. Until then it holds up what is sent after it on the same link, so write soon.
pub struct Permit<'a> {
    claim: Option<Claim<'a>>,
    route: &'a Route,
}

impl Permit<'_> {
    /// The message's bytes, zero at first.
    pub fn payload(&mut self) -> &mut [u8] {
        self.claim.as_mut().map_or(&mut [], Claim::body)
    }

    /// Sends what was written.
    pub fn send(mut self) {
        if let Some(claim) = self.claim.take() {
            claim.commit(Kind::Message, 0, 0, self.route.handle);
            self.route.peer.flush();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.claim.take().is_some() {
            self.route.give_credit_back();
            self.route.peer.flush();
        }
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
        match route.claim(payload.len(), None) {
            Ok(Some(claim)) => {
                commit(claim, route, None, |body| body.copy_from_slice(payload));
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

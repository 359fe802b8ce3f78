//! Addresses: where a message can be sent, how it is sent, and every way in which that can fail.

mod batch;
mod content;
mod error;
mod lending;
mod route;
mod slot;

pub use batch::SendBatch;
pub use error::{SendError, Unsent};
pub(crate) use route::{Label, Route, Terms};
pub(crate) use slot::Slot;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use content::Content;

use crate::codec::Reader;
use crate::dead_letter::Reason;
use crate::mailbox::{LocalDelivery, Lost, MailboxShared, Overflow};
use crate::node::NodeInner;
use crate::questions::THIS_NODE;
use crate::trace::{Tagged, Tags};
use crate::wait::Place;

/// Flag of a message frame whose extension starts with a correlation id (u64, little-endian).
pub const FLAG_CORRELATION: u8 = 1;

/// The correlation id in a frame's extension, if its flags announce one.
pub(crate) fn correlation_in(flags: u8, extension: &[u8]) -> Option<u64> {
    if flags & FLAG_CORRELATION == 0 {
        return None;
    }
    Reader::new(extension).u64().ok()
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
        if let Target::Remote(route) = &self.target
            && tags.tags().is_empty()
            && route.commit_at_once(&[payload]) == 1
        {
            route.peer.flush();
            return Ok(());
        }
        self.try_send_content(Content::Bytes(payload), tags)
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
        if let Some(mut stream) = self.stream(Content::Bytes(payload), &tags) {
            return self.waiting(timeout, |waker| stream.poll(waker));
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
        let mut place = Place::default();
        self.waiting(timeout, |waker| self.attempt_with(&mut place, waker, &attempt))
    }

    /// Waits until something is sent or refused, for at most `timeout`.
    fn waiting(
        &self,
        timeout: Option<Duration>,
        poll: impl FnMut(&Waker) -> Poll<Result<(), SendError>>,
    ) -> Result<(), SendError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let sent = self.driver().wait_for(deadline, poll);
        sent.unwrap_or(Err(SendError::TimedOut(timeout.unwrap_or_default())))
    }

    /// Whether a message of this length is put into several frames.
    pub(crate) fn goes_in_several_chunks(&self, len: usize) -> bool {
        matches!(&self.target, Target::Remote(route) if route.is_streamed(len))
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
        if let Some(mut stream) = self.stream(Content::Bytes(payload), &tags) {
            return poll_fn(|context| stream.poll(context.waker())).await;
        }
        self.attempt_async(|| self.try_send_tagged(payload, tags)).await
    }

    /// Several messages that leave together: commits each, pushes once at the end or when much has piled up.
    pub fn batch(&self) -> SendBatch<'_> {
        SendBatch::of(self)
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
        error.is_worth_waiting(overflow)
    }

    fn register<'a>(&'a self, error: &SendError, place: &mut Place<'a>, waker: &Waker) {
        match &self.target {
            Target::Remote(route) => place.register_all(route.waits(error), waker),
            Target::Local(mailbox, _) => place.register(&mailbox.room, waker),
        }
    }

    /// Attempts until it is done, or no waiting mends it.
    pub(crate) async fn attempt_async<T>(
        &self,
        attempt: impl Fn() -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let mut place = Place::default();
        poll_fn(|context| self.attempt_with(&mut place, context.waker(), &attempt)).await
    }

    /// One attempt to send; where there is no room, the waker is registered and the attempt made once more.
    pub(crate) fn attempt_with<'a, T>(
        &'a self,
        place: &mut Place<'a>,
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
                    self.register(&error, place, waker);
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

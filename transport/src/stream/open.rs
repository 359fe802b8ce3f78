//! Opening a stream: one message there, one back.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wire::{Accept, Grant, LISTENER, MAX_BACK, Open, ReadEnd, back};
use super::{OVERHEAD, Stream, StreamOptions, StreamReceiver, StreamSender};
use crate::address::{Address, Route, SendError, Target};
use crate::control::MAX_NAME;
use crate::mailbox::{Mailbox, MailboxOptions, MailboxShared, Overflow, Port};
use crate::peer::{Peer, PeerInner, ResolveError};
use crate::ring::max_frame;
use crate::session::Ended;

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody on the peer listens for streams of this name, or nobody does any more.
    #[error("node {node:?} does not listen for streams named {name:?}")]
    NobodyListens {
        /// The peer.
        node: String,
        /// The name.
        name: String,
    },
    /// The peer turned this stream away.
    #[error("the peer refused the stream")]
    Refused,
    /// The name is empty or too long.
    #[error("stream name of {len} bytes: 1 to {max} are allowed")]
    BadName {
        /// Its length in bytes.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The session has used up its handles: connect again for more streams.
    #[error("the session has had as many streams as it can: connect again")]
    TooMany,
    /// The session is over: connect again.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The peer answered what no correct peer answers.
    #[error("the peer broke the protocol of streams: {0}")]
    Violation(&'static str),
}

impl From<OpenError> for std::io::Error {
    fn from(error: OpenError) -> std::io::Error {
        let kind = match &error {
            OpenError::NobodyListens { .. } | OpenError::Refused => std::io::ErrorKind::ConnectionRefused,
            OpenError::SessionOver(_) => std::io::ErrorKind::ConnectionReset,
            OpenError::BadName { .. } => std::io::ErrorKind::InvalidInput,
            OpenError::TooMany => std::io::ErrorKind::OutOfMemory,
            OpenError::Violation(_) => std::io::ErrorKind::InvalidData,
        };
        std::io::Error::new(kind, error)
    }
}

impl Peer {
    /// Opens a two-way stream to whoever listens for `name` on the peer. Waits as long as the session lives and nobody
    /// answers; cancelled, it opens nothing that stays.
    ///
    /// # Errors
    /// Nobody listens for the name, the listener turned it away, a name that can't be one, no handle left, the session over:
    /// [`OpenError`] says which.
    pub async fn open_stream(&self, name: &str, options: StreamOptions) -> Result<Stream, OpenError> {
        let opened = self.open(name, Some(options)).await?;
        let (Some(back), Some(end)) = (opened.back, opened.read) else {
            return Err(OpenError::Violation("a one-way answer to a two-way stream"));
        };
        Ok(Stream {
            sender: opened.sender,
            receiver: StreamReceiver::new(end.mailbox, back, end.offer.window),
        })
    }

    /// As [`Peer::open_stream`], a stream that only this node writes.
    ///
    /// # Errors
    /// As [`Peer::open_stream`].
    pub async fn open_sender(&self, name: &str) -> Result<StreamSender, OpenError> {
        self.open(name, None).await.map(|opened| opened.sender)
    }

    async fn open(&self, name: &str, read: Option<StreamOptions>) -> Result<Opened, OpenError> {
        let peer = &self.0;
        let listener = peer.listener(name)?;
        let address = self.address_async(&listener).await.map_err(|error| match error {
            ResolveError::SessionOver(ended) => OpenError::SessionOver(ended),
            ResolveError::TooManyHandles { .. } => OpenError::TooMany,
            _ => nobody(peer, name),
        })?;
        let mut opening = Opening::new(peer, name, read)?;
        let open = opening.open.encode();
        poll_fn(|context| poll_send(&address, &open, opening.request, context))
            .await
            .map_err(|error| match error {
                SendError::SessionOver(ended) => OpenError::SessionOver(ended),
                _ => nobody(peer, name),
            })?;
        opening.is_sent = true;
        let accept = poll_fn(|context| opening.poll_answer(context)).await?;
        opening.accepted(&accept)
    }
}

/// What an opened stream is made of.
struct Opened {
    sender: StreamSender,
    back: Option<Arc<Route>>,
    read: Option<OwnReadEnd>,
}

fn nobody(peer: &PeerInner, name: &str) -> OpenError {
    OpenError::NobodyListens {
        node: peer.identity.node.clone(),
        name: name.to_owned(),
    }
}

fn poll_send(
    address: &Address,
    open: &[u8],
    request: u64,
    context: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    let Target::Remote(route) = &address.target else {
        return Poll::Ready(address.try_send_with(open, Some(request)));
    };
    let mut registered = None;
    loop {
        match address.try_send_with(open, Some(request)) {
            Err(error) if error.is_full() => {
                if registered.as_ref() == Some(&error) {
                    return Poll::Pending;
                }
                route.register(&error, context.waker());
                registered = Some(error);
            }
            done => return Poll::Ready(done),
        }
    }
}

/// A stream that was asked for and not answered yet.
struct Opening<'p> {
    peer: &'p Arc<PeerInner>,
    name: &'p str,
    request: u64,
    /// What the peer is offered.
    open: Open,
    /// The ends of this node; `None` once the stream is open.
    ends: Option<(Mailbox, Option<OwnReadEnd>)>,
    /// The peer is told of them.
    is_sent: bool,
}

impl<'p> Opening<'p> {
    fn new(
        peer: &'p Arc<PeerInner>,
        name: &'p str,
        read: Option<StreamOptions>,
    ) -> Result<Opening<'p>, OpenError> {
        let (answers, back) = peer.back_end(name)?;
        let mut opening = Opening {
            peer,
            name,
            request: u64::from(peer.next_request()),
            open: Open { back, read: None },
            ends: Some((answers, None)),
            is_sent: false,
        };
        if let (Some(options), Some((_, read))) = (read, &mut opening.ends) {
            let end = peer.read_end(name, options)?;
            opening.open.read = Some(end.offer);
            *read = Some(end);
        }
        peer.begin_opening(opening.request);
        Ok(opening)
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<Accept, OpenError>> {
        let listened = self.peer.await_opening(self.request, context.waker());
        if let Some(answer) = self.take_answer(context.waker()) {
            return Poll::Ready(answer);
        }
        // Looked at after the wakers were left.
        match self.peer.ended() {
            Some(ended) => Poll::Ready(Err(OpenError::SessionOver(ended))),
            None if !listened => Poll::Ready(Err(nobody(self.peer, self.name))),
            None => Poll::Pending,
        }
    }

    fn take_answer(&mut self, waker: &Waker) -> Option<Result<Accept, OpenError>> {
        let (answers, _) = self.ends.as_mut()?;
        let Poll::Ready(range) = answers.poll_take(waker) else {
            return None;
        };
        Some(match answers.bytes(range) {
            [back::ACCEPT, accept @ ..] => {
                Accept::decode(accept).map_err(|_| OpenError::Violation("a malformed answer"))
            }
            [back::REFUSE] => Err(OpenError::Refused),
            _ => Err(OpenError::Violation("an unknown answer")),
        })
    }

    fn accepted(mut self, accept: &Accept) -> Result<Opened, OpenError> {
        // Both, before either fails: see `PeerInner::granted`.
        let way = |grant| self.peer.stream_route(self.name, grant);
        let (route, back) = (way(accept.read.data), accept.back.map(way).transpose());
        let (route, back) = (route?, back?);
        let (answers, read) = self.ends.take().ok_or(OpenError::Refused)?;
        Ok(Opened {
            sender: StreamSender::new(route, answers, accept.read.window),
            back,
            read,
        })
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let Some((answers, _)) = &self.ends else {
            self.peer.opened(self.request);
            return;
        };
        // From here on an answer finds the mailbox closed, or is in it.
        answers.shared.close();
        if let Some(Ok(too_late)) = self.take_answer(Waker::noop()) {
            self.peer.hear_grants(self.name, &too_late);
        }
        let Some((mut answers, mut read)) = self.ends.take() else {
            return;
        };
        // What else is there is no dead letter: both halves of a stream are told what becomes of it.
        answers.discard();
        if let Some(read) = &mut read {
            read.mailbox.discard();
        }
        let mut granted = vec![(self.open.back.handle, answers.shared.clone())];
        granted.extend(
            read.iter()
                .map(|end| (end.offer.data.handle, end.mailbox.shared.clone())),
        );
        // Closed first.
        drop((answers, read));
        self.peer.give_up_opening(self.request, &granted, self.is_sent);
    }
}

/// A reading end of this node, ready to be offered.
pub(super) struct OwnReadEnd {
    pub(super) mailbox: Mailbox,
    pub(super) offer: ReadEnd,
}

impl PeerInner {
    /// The name of the listener's mailbox.
    fn listener(&self, name: &str) -> Result<String, OpenError> {
        let max = MAX_NAME - LISTENER.len();
        if name.is_empty() || name.len() > max {
            return Err(OpenError::BadName { len: name.len(), max });
        }
        Ok(format!("{LISTENER}{name}"))
    }

    /// A mailbox without a name, for this peer alone.
    fn granted_mailbox(
        self: &Arc<Self>,
        label: &str,
        options: MailboxOptions,
    ) -> Result<(Mailbox, Grant), OpenError> {
        let name = format!("{LISTENER}{label}");
        let shared = Arc::new(MailboxShared::new(
            name,
            options,
            None,
            self.node.latencies.clone(),
            Arc::downgrade(&self.node),
        ));
        let terms = self.grant(&shared).ok_or_else(|| match self.ended() {
            Some(ended) => OpenError::SessionOver(ended),
            None => OpenError::TooMany,
        })?;
        Ok((Mailbox::new(shared, self.node.clone()), Grant::of(&terms)))
    }

    /// Where a writer of this node is answered.
    pub(super) fn back_end(self: &Arc<Self>, label: &str) -> Result<(Mailbox, Grant), OpenError> {
        // An answer, four credits for the window, an answer to a question, the end: with a few to spare.
        let options = MailboxOptions {
            capacity: 16,
            max_message: MAX_BACK,
            overflow: Overflow::Wait,
        };
        self.granted_mailbox(label, options)
    }

    pub(super) fn read_end(
        self: &Arc<Self>,
        label: &str,
        options: StreamOptions,
    ) -> Result<OwnReadEnd, OpenError> {
        let window = options.clamped().window;
        let frame = max_frame(self.node.identity.sizes.ordinary as usize) as u32 - 64;
        let options = MailboxOptions {
            // As many as the window can hold, the end, and a question.
            capacity: window / OVERHEAD as u32 + 4,
            max_message: frame.min(MailboxOptions::default().max_message),
            overflow: Overflow::Wait,
        };
        let (mailbox, data) = self.granted_mailbox(label, options)?;
        let offer = ReadEnd { data, window };
        Ok(OwnReadEnd { mailbox, offer })
    }

    /// Whether a message for a mailbox that is closed is the answer to a request that was given up. It is read for what it grants.
    #[cold]
    pub(crate) fn reads_answer_too_late(self: &Arc<Self>, port: &Port, message: &[u8]) -> bool {
        let Some(label) = port.mailbox.name.strip_prefix(LISTENER) else {
            return false;
        };
        let [back::ACCEPT, accept @ ..] = message else {
            return false;
        };
        Accept::decode(accept).is_ok_and(|accept| {
            self.hear_grants(label, &accept);
            true
        })
    }

    /// Takes note of what an answer grants, where nobody will go there: the peer waits to hear that.
    fn hear_grants(self: &Arc<Self>, label: &str, accept: &Accept) {
        for grant in [Some(accept.read.data), accept.back].into_iter().flatten() {
            let _ = self.stream_route(label, grant);
        }
    }

    /// The way to a mailbox that the peer has offered for a stream: see [`PeerInner::granted`].
    pub(super) fn stream_route(self: &Arc<Self>, label: &str, grant: Grant) -> Result<Arc<Route>, OpenError> {
        self.granted(format!("{LISTENER}{label}"), grant.terms())
            .ok_or_else(|| match self.ended() {
                Some(ended) => OpenError::SessionOver(ended),
                None => OpenError::Violation("a mailbox that it has offered before"),
            })
    }
}

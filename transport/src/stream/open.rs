//! Opening a stream: one message there, one back.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::wire::{Accept, Grant, LISTENER, MAX_BACK, Open, ReadEnd, back};
use super::{OVERHEAD, Stream, StreamOptions, StreamReceiver, StreamSender};
use crate::address::{Address, Route, SendError, Target};
use crate::control::MAX_NAME;
use crate::mailbox::{Mailbox, MailboxOptions, MailboxShared, Overflow};
use crate::peer::{Peer, PeerInner, ResolveError};
use crate::ring::max_frame;
use crate::session::Ended;
use crate::wait::lock;

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody on the peer listens for streams of this name, or nobody does any more.
    #[error("node {node} does not listen for streams named {name:?}")]
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
        let end = self.0.read_end(name, options)?;
        let (sender, accepted) = self.open(name, Some(end.offer)).await?;
        let back = accepted.ok_or(OpenError::Violation("a one-way answer to a two-way stream"))?;
        let back = self.0.stream_route(name, back)?;
        Ok(Stream {
            sender,
            receiver: StreamReceiver::new(end.mailbox, back, end.offer.window),
        })
    }

    /// As [`Peer::open_stream`], a stream that only this node writes.
    ///
    /// # Errors
    /// As [`Peer::open_stream`].
    pub async fn open_sender(&self, name: &str) -> Result<StreamSender, OpenError> {
        self.open(name, None).await.map(|(sender, _)| sender)
    }

    async fn open(
        &self,
        name: &str,
        read: Option<ReadEnd>,
    ) -> Result<(StreamSender, Option<Grant>), OpenError> {
        let peer = &self.0;
        let listener = peer.listener(name)?;
        let address = self.address_async(&listener).await.map_err(|error| match error {
            ResolveError::SessionOver(ended) => OpenError::SessionOver(ended),
            _ => nobody(peer, name),
        })?;
        let (mut answers, grant) = peer.back_end(name)?;
        let request = u64::from(peer.next_request());
        let open = Open { back: grant, read }.encode();
        let opening = Opening { peer, request };
        lock(&peer.openings).insert(request, None);
        poll_fn(|context| poll_send(&address, &open, request, context))
            .await
            .map_err(|error| match error {
                SendError::SessionOver(ended) => OpenError::SessionOver(ended),
                _ => nobody(peer, name),
            })?;
        let accept = poll_fn(|context| opening.poll_answer(&mut answers, name, context)).await?;
        drop(opening);
        let route = peer.stream_route(name, accept.read.data)?;
        Ok((StreamSender::new(route, answers, accept.read.window), accept.back))
    }
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
    peer: &'p PeerInner,
    request: u64,
}

impl Opening<'_> {
    fn poll_answer(
        &self,
        answers: &mut Mailbox,
        name: &str,
        context: &mut Context<'_>,
    ) -> Poll<Result<Accept, OpenError>> {
        let listened = match lock(&self.peer.openings).get_mut(&self.request) {
            Some(waker) => {
                *waker = Some(context.waker().clone());
                true
            }
            None => false,
        };
        if let Poll::Ready(range) = answers.poll_take(context.waker()) {
            return Poll::Ready(match answers.bytes(range) {
                [back::ACCEPT, accept @ ..] => {
                    Accept::decode(accept).map_err(|_| OpenError::Violation("a malformed answer"))
                }
                [back::REFUSE] => Err(OpenError::Refused),
                _ => Err(OpenError::Violation("an unknown answer")),
            });
        }
        // Looked at after the wakers were left.
        match self.peer.ended() {
            Some(ended) => Poll::Ready(Err(OpenError::SessionOver(ended))),
            None if !listened => Poll::Ready(Err(nobody(self.peer, name))),
            None => Poll::Pending,
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        lock(&self.peer.openings).remove(&self.request);
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

    /// The way to a mailbox that the peer has offered for a stream.
    pub(super) fn stream_route(self: &Arc<Self>, label: &str, grant: Grant) -> Result<Arc<Route>, OpenError> {
        self.granted(format!("{LISTENER}{label}"), grant.terms())
            .ok_or_else(|| OpenError::SessionOver(self.ended().unwrap_or(Ended::Closed)))
    }
}

//! Listening for streams by name.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::open::{OpenError, OwnReadEnd};
use super::wire::{Accept, LISTENER, MAX_BACK, Open, back};
use super::{Stream, StreamOptions, StreamReceiver, StreamSender, send_last_word};
use crate::address::Route;
use crate::mailbox::{Mailbox, MailboxClosed, MailboxOptions, Overflow};
use crate::node::{Node, NodeError};
use crate::peer::{Peer, PeerInner};

/// Streams of one peer that may wait to be accepted.
const BACKLOG: u32 = 128;

impl Node {
    /// Listens for streams of this name: what peers ask for waits until it is accepted, 128 of each peer at most.
    ///
    /// # Errors
    /// [`NodeError`]: the name is empty, too long or taken, or the node closed.
    pub fn listen_streams(&self, name: &str, options: StreamOptions) -> Result<StreamListener, NodeError> {
        let options_of_its_mailbox = MailboxOptions {
            capacity: BACKLOG,
            max_message: MAX_BACK,
            overflow: Overflow::Wait,
        };
        let mailbox = self.mailbox(&format!("{LISTENER}{name}"), options_of_its_mailbox);
        let mailbox = mailbox.map_err(|error| match error {
            NodeError::MailboxExists { .. } => NodeError::ListensAlready {
                name: name.to_owned(),
            },
            error => error,
        })?;
        Ok(StreamListener {
            name: name.to_owned(),
            mailbox,
            options,
        })
    }
}

/// Where streams of one name come in. Dropped, it turns away those that wait and those that come.
pub struct StreamListener {
    name: String,
    mailbox: Mailbox,
    options: StreamOptions,
}

impl StreamListener {
    /// The next stream that a peer asks for. Cancelling loses nothing. Requests that make no sense are skipped.
    ///
    /// # Errors
    /// [`MailboxClosed`] once the node is closed.
    pub async fn accept(&mut self) -> Result<Incoming, MailboxClosed> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`StreamListener::accept`], without the future.
    ///
    /// # Errors
    /// As [`StreamListener::accept`].
    pub fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, MailboxClosed>> {
        loop {
            let Poll::Ready(message) = self.mailbox.poll_recv(context.waker()) else {
                return Poll::Pending;
            };
            let message = message?;
            let Some(peer) = message.peer() else { continue };
            match Open::decode(message.payload) {
                Ok(open) => {
                    return Poll::Ready(Ok(Incoming {
                        peer: peer.0,
                        open: Some(open),
                        name: self.name.clone(),
                        options: self.options,
                    }));
                }
                Err(error) => tracing::warn!(peer = peer.node(), %error, "a malformed request for a stream"),
            }
        }
    }

    /// The next two-way stream; others are turned away.
    ///
    /// # Errors
    /// [`MailboxClosed`] once the node is closed.
    pub async fn accept_stream(&mut self) -> Result<Stream, MailboxClosed> {
        poll_fn(|context| self.poll_accept_stream(context)).await
    }

    /// As [`StreamListener::accept_stream`], without the future.
    ///
    /// # Errors
    /// As [`StreamListener::accept_stream`].
    pub fn poll_accept_stream(&mut self, context: &mut Context<'_>) -> Poll<Result<Stream, MailboxClosed>> {
        loop {
            let incoming = ready!(self.poll_accept(context))?;
            if incoming.kind() == IncomingKind::OneWay {
                continue;
            }
            match incoming.accept() {
                Ok(stream) => return Poll::Ready(Ok(stream)),
                Err(error) => tracing::debug!(%error, "a stream was not accepted"),
            }
        }
    }
}

impl std::fmt::Debug for StreamListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamListener")
            .field("name", &self.name)
            .finish()
    }
}

/// Which way a stream goes that a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncomingKind {
    /// Both ways: [`Incoming::accept`].
    TwoWay,
    /// The peer writes: [`Incoming::accept_receiver`].
    OneWay,
}

/// A stream that a peer asks for. Dropped, it is turned away.
pub struct Incoming {
    peer: Arc<PeerInner>,
    open: Option<Open>,
    name: String,
    options: StreamOptions,
}

impl Incoming {
    /// Who asks.
    pub fn peer(&self) -> Peer {
        Peer(self.peer.clone())
    }

    /// Which way the stream goes.
    pub fn kind(&self) -> IncomingKind {
        match self.open {
            Some(Open { read: Some(_), .. }) => IncomingKind::TwoWay,
            _ => IncomingKind::OneWay,
        }
    }

    /// Accepts a two-way stream. Does not wait: the peer can write as soon as it has the answer.
    ///
    /// # Errors
    /// [`OpenError`]: the session is over or has used up its handles, or the peer asked for a one-way stream, or has taken its
    /// request back.
    pub fn accept(mut self) -> Result<Stream, OpenError> {
        if self.kind() != IncomingKind::TwoWay {
            return Err(OpenError::Violation(
                "a one-way stream where a two-way one was expected",
            ));
        }
        let Ways { answers, writer } = self.ways()?;
        let (Some((writer, window)), true) = (writer, !answers.is_closed()) else {
            return Err(taken_back());
        };
        let made = self.peer.back_end(&self.name).and_then(|(back_mailbox, back)| {
            match self.peer.read_end(&self.name, self.options) {
                Ok(read) => Ok((back_mailbox, back, read)),
                Err(error) => {
                    drop(back_mailbox);
                    self.peer.take_unsent_back(&[back.handle]);
                    Err(error)
                }
            }
        });
        let (back_mailbox, back, OwnReadEnd { mailbox, offer }) = refusing(&answers, made)?;
        let accept = Accept {
            read: offer,
            back: Some(back),
        };
        if let Err(error) = answer(&answers, &accept) {
            drop((mailbox, back_mailbox));
            self.peer.take_unsent_back(&[back.handle, offer.data.handle]);
            return Err(error);
        }
        Ok(Stream {
            sender: StreamSender::new(writer, back_mailbox, window),
            receiver: StreamReceiver::new(mailbox, answers, offer.window),
        })
    }

    /// Accepts the reading end of a one-way stream.
    ///
    /// # Errors
    /// As [`Incoming::accept`].
    pub fn accept_receiver(mut self) -> Result<StreamReceiver, OpenError> {
        if self.kind() != IncomingKind::OneWay {
            return Err(OpenError::Violation(
                "a two-way stream where a one-way one was expected",
            ));
        }
        let Ways { answers, .. } = self.ways()?;
        if answers.is_closed() {
            return Err(taken_back());
        }
        let made = self.peer.read_end(&self.name, self.options);
        let OwnReadEnd { mailbox, offer } = refusing(&answers, made)?;
        let accept = Accept {
            read: offer,
            back: None,
        };
        if let Err(error) = answer(&answers, &accept) {
            drop(mailbox);
            self.peer.take_unsent_back(&[offer.data.handle]);
            return Err(error);
        }
        Ok(StreamReceiver::new(mailbox, answers, offer.window))
    }

    /// The ways to what the peer has offered. Both are asked for, and once: see [`PeerInner::granted`].
    fn ways(&mut self) -> Result<Ways, OpenError> {
        let Open { back, read } = self.open.take().ok_or_else(taken_back)?;
        let way = |grant| self.peer.stream_route(&self.name, grant);
        let (back, read) = (way(back), read.map(|read| Ok((way(read.data)?, read.window))));
        Ok(Ways {
            answers: back?,
            writer: read.transpose()?,
        })
    }
}

/// The ways to the ends of a peer that asks for a stream.
struct Ways {
    /// Where it is answered.
    answers: Arc<Route>,
    /// Where it reads, if it does, and with what window.
    writer: Option<(Arc<Route>, u32)>,
}

fn taken_back() -> OpenError {
    OpenError::Violation("the peer took its request back")
}

/// Turns the peer away where something failed.
fn refusing<T>(answers: &Arc<Route>, made: Result<T, OpenError>) -> Result<T, OpenError> {
    made.inspect_err(|_| send_last_word(answers, &[back::REFUSE]))
}

/// Sends the answer. The ring may be full just now: then this fails, and the peer is turned away.
fn answer(route: &Arc<Route>, accept: &Accept) -> Result<(), OpenError> {
    let sent = route.commit_parts(&accept.encode(), &[]);
    route.peer.flush();
    sent.map_err(|error| match route.peer.ended() {
        Some(ended) => OpenError::SessionOver(ended),
        None if error.is_full() => {
            send_last_word(route, &[back::REFUSE]);
            OpenError::Refused
        }
        None => taken_back(),
    })
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Ok(Ways { answers, .. }) = self.ways() {
            send_last_word(&answers, &[back::REFUSE]);
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("peer", &self.peer.identity.node)
            .field("kind", &self.kind())
            .finish()
    }
}

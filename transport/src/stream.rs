//! Streams: ordered bytes or frames of any length between two nodes, over mailboxes of a session.
//!
//! A one-way stream is two mailboxes without names: one at the receiving end for what is sent, one at the sending end for
//! what comes back (credit and acknowledgements). So each half owns what it needs, and the halves share no lock. A two-way
//! [`Stream`] is one of each direction. Any number of streams share a session; a stream that nobody reads holds back its
//! own sender and nobody else.
//!
//! Bytes and frames are the same stream seen twice: as bytes through `tokio`'s or `futures`' traits (features `tokio`,
//! `futures-io`), as frames through [`FrameSender`] and [`FrameReceiver`].
//!
//! | word | means |
//! | --- | --- |
//! | written | committed to the session: it arrives, or the session ends and the reader is told so |
//! | flushed, ended | and given to the link, as far as that takes it: over TCP to the system, as by a socket's `write` |
//! | acknowledged | taken by the reader at the other end, out of the stream: not yet more than that |
//! | finished | the reader has taken everything, the end included |
//! | dropped without an end | the reader gets everything before, then an error: it can't take a part for the whole |
//!
//! What is written leaves at once the first two times after something has come from the peer, and whenever 32 KiB have been
//! written. Where a task of tokio drives the node, further small pieces leave together when they are flushed, or when that task has its next turn: once
//! the writing task waits for something. Over shared memory there is nothing that would have to leave.
//!
//! A dead peer is an error at both halves as soon as its session is over: within [`crate::Timing::silence`] and
//! [`crate::Timing::resume_window`] together; where its process was killed and its host lives, after
//! [`crate::NodeBuilder::refused_window`] at the side that dialled, and at once over shared memory. What goes over the session is in
//! `docs/PROTOCOL.md`, "Streams".

mod framed;
mod listen;
mod open;
mod pieces;
mod receiver;
mod sender;
mod wire;

#[cfg(feature = "futures-io")]
mod as_futures_io;
#[cfg(feature = "tokio")]
mod as_tokio;

use std::io;
use std::sync::Arc;

use crate::address::{Address, Route, SendError, Target};
use crate::peer::Peer;
use crate::session::Ended;

pub(crate) use wire::LISTENER;

pub use framed::{FrameReceiver, FrameSender};
pub use listen::{Incoming, IncomingKind, StreamListener};
pub use open::OpenError;
pub use receiver::StreamReceiver;
pub use sender::StreamSender;

/// How a stream is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Bytes that may be under way to the reader and not taken by it, those of the messages' overhead (64 each) included.
    /// [`StreamOptions::LIMITS`]; default 256 KiB.
    pub window: u32,
}

impl StreamOptions {
    /// The smallest and the largest window, in bytes.
    pub const LIMITS: (u32, u32) = (64 << 10, 16 << 20);

    fn clamped(self) -> StreamOptions {
        let (least, most) = StreamOptions::LIMITS;
        StreamOptions {
            window: self.window.clamp(least, most),
        }
    }
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions { window: 256 << 10 }
    }
}

/// What each message is charged on top of its payload: its place in a mailbox is not free.
const OVERHEAD: u64 = 64;

/// Why a stream goes no further. The first reason stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The session is over, and all its streams with it.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The peer dropped its sending half before the end: what came before is not the whole.
    #[error("the peer dropped the stream before its end")]
    Aborted,
    /// The peer dropped its receiving half: what was not acknowledged may not have been read.
    #[error("the peer stopped reading the stream")]
    Stopped,
    /// Nothing can be written after the end.
    #[error("the stream has been finished")]
    Finished,
    /// A frame is longer than the receiver allows.
    #[error(
        "frame of more than {max} bytes: the sender has to send less at once, or this side to allow more"
    )]
    FrameTooLong {
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// The peer sent what no correct peer sends.
    #[error("the peer broke the protocol of streams: {0}")]
    Violation(&'static str),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        let kind = match &error {
            StreamError::SessionOver(_) => io::ErrorKind::ConnectionReset,
            StreamError::Aborted => io::ErrorKind::ConnectionAborted,
            StreamError::Stopped | StreamError::Finished => io::ErrorKind::BrokenPipe,
            StreamError::FrameTooLong { .. } | StreamError::Violation(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// A two-way stream. [`Stream::split`] gives the halves, which need nothing of each other.
pub struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
}

impl Stream {
    /// The two halves.
    pub fn split(self) -> (StreamSender, StreamReceiver) {
        (self.sender, self.receiver)
    }

    /// Both halves seen as frames; `max_frame` is the longest that is received, in bytes.
    pub fn framed(self, max_frame: usize) -> (FrameSender, FrameReceiver) {
        (self.sender.framed(), self.receiver.framed(max_frame))
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut StreamSender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut StreamReceiver {
        &mut self.receiver
    }

    /// The peer at the other end.
    pub fn peer(&self) -> Peer {
        self.sender.peer()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer()).finish()
    }
}

/// Sends the last word of a half that is being dropped, in order after what it sent before. Never blocks: where the ring
/// has no room, a thread waits for it.
fn send_last_word(route: &Arc<Route>, message: &'static [u8]) {
    match route.commit_parts(message, &[]) {
        Ok(()) => route.peer.flush(),
        Err(error) if error.is_full() => {
            let address = Address {
                target: Target::Remote(route.clone()),
            };
            let waiting = std::thread::Builder::new()
                .name("end of a stream".into())
                .spawn(move || match address.send(message) {
                    Ok(()) | Err(SendError::SessionOver(_) | SendError::MailboxClosed { .. }) => {}
                    Err(error) => tracing::debug!(%error, "the end of a stream was not sent"),
                });
            if let Err(error) = waiting {
                tracing::warn!(%error, "no thread to send the end of a stream: its reader waits until the session ends");
            }
        }
        Err(_) => {}
    }
}

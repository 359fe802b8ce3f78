//! The writing half: commits what it is given as far as there is credit, and knows what the reader has taken.
//!
//! Invariant: `consumed <= asked <= sent <= consumed + window` and `pushed <= sent`, all counts of charged bytes since the
//! stream was opened.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::pieces::Pieces;
use super::wire::{back, forward};
use super::{OVERHEAD, StreamError, send_last_word};
use crate::address::{Route, SendError};
use crate::mailbox::Mailbox;
use crate::peer::Peer;

/// With less credit than this nothing is sent, unless less is all there is to send: many small messages cost more than
/// one that waited.
const LEAST: usize = 4 << 10;

/// With so many bytes written they are pushed at once: the reader need not wait for more.
const MUCH: u64 = 32 << 10;

/// The half of a stream that writes. Dropped before [`StreamSender::poll_finish`] was begun, it breaks the stream off: the
/// reader gets what was written, then an error.
pub struct StreamSender {
    route: Arc<Route>,
    back: Mailbox,
    window: u64,
    /// Most payload bytes of one message.
    chunk: usize,
    sent: u64,
    /// Up to where this half has itself pushed when there was much.
    pushed: u64,
    /// Something of it was left for somebody to push later.
    left: bool,
    consumed: u64,
    asked: u64,
    end: End,
    failed: Option<StreamError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Sent,
    Acknowledged,
}

impl StreamSender {
    pub(super) fn new(route: Arc<Route>, back: Mailbox, window: u32) -> StreamSender {
        // Within the ordinary lane, where no message waits for one on another lane; and a quarter of the window at most, so
        // that whatever the reader holds back, the rest suffices to go on.
        let longest = route.longest_ordinary.min(route.max_message as usize);
        let chunk = (longest - 1).min(window as usize / 4);
        StreamSender {
            route,
            back,
            window: u64::from(window),
            chunk,
            sent: 0,
            pushed: 0,
            left: false,
            consumed: 0,
            asked: 0,
            end: End::Open,
            failed: None,
        }
    }

    /// The peer at the other end.
    pub fn peer(&self) -> Peer {
        Peer(self.route.peer.clone())
    }

    /// Writes as much of `bytes` as there is credit for, at least one byte; how many. Cancelled, it has written nothing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        poll_fn(|context| self.poll_write(context, bytes)).await
    }

    /// Writes all of `bytes`, waiting for credit. Cancelled, it has written an unknown part of them.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// As [`StreamSender::write`], without the future.
    ///
    /// # Errors
    /// As [`StreamSender::write`].
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// As [`StreamSender::poll_write`], of several pieces, which go together.
    pub fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, StreamError>> {
        self.poll_commit_all(context.waker(), pieces, StreamSender::push)
    }

    /// As [`StreamSender::poll_write_vectored`], where the caller is about to write the rest of what these bytes begin, and the reader can
    /// do nothing without it: they leave with the rest, or once the thread of tokio that this is called on has nothing else to
    /// run. Where no task of tokio drives the node, and over shared memory, they leave at once.
    pub fn poll_write_begun(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize, StreamError>> {
        self.poll_commit_all(context.waker(), pieces, |stream| {
            stream.left |= stream.route.peer.flush_with_the_rest();
        })
    }

    /// Commits as much of `pieces` as there is credit for, and has `push` see to its leaving.
    fn poll_commit_all(
        &mut self,
        waker: &Waker,
        pieces: &[IoSlice<'_>],
        push: impl FnOnce(&mut StreamSender),
    ) -> Poll<Result<usize, StreamError>> {
        let mut rest = Pieces::new(pieces);
        let mut written = 0;
        while rest.len() > 0 {
            match self.poll_commit(waker, &mut rest, forward::PART) {
                Poll::Ready(Ok(len)) => written += len,
                // What was written is told first; the error or the waiting comes with the next call.
                _ if written > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        push(self);
        Poll::Ready(Ok(written))
    }

    /// Waits until the reader has taken everything that was written so far.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn acknowledged(&mut self) -> Result<(), StreamError> {
        poll_fn(|context| self.poll_acknowledged(context)).await
    }

    /// As [`StreamSender::acknowledged`], without the future.
    ///
    /// # Errors
    /// As [`StreamSender::acknowledged`].
    pub fn poll_acknowledged(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            let heard = self.poll_hear(context.waker());
            if self.consumed >= self.sent {
                return Poll::Ready(Ok(()));
            }
            match heard {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            // One question at a time, asked again when the answer to the last was not enough.
            if self.asked > self.consumed {
                return Poll::Pending;
            }
            match self.poll_message(context.waker(), forward::ASK, 0, |_| {}) {
                Poll::Ready(Ok(())) => self.asked = self.sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.route.peer.flush();
        }
    }

    /// Ends the stream, and waits until the reader has taken everything and has seen the end.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        poll_fn(|context| self.poll_finish(context)).await
    }

    /// As [`StreamSender::finish`], without the future.
    ///
    /// # Errors
    /// As [`StreamSender::finish`].
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Poll::Ready(Err(error)) = self.poll_end(context) {
            return Poll::Ready(Err(error));
        }
        loop {
            let heard = self.poll_hear(context.waker());
            if self.end == End::Acknowledged {
                return Poll::Ready(Ok(()));
            }
            match heard {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Ends the stream without waiting for the reader.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.end == End::Open {
            match self.poll_message(context.waker(), forward::FINISH, 0, |_| {}) {
                Poll::Ready(Ok(())) => {
                    self.end = End::Sent;
                    self.push_now();
                }
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has what was written leave now, as far as the link takes it, rather than when the task that drives the node has its turn.
    /// Waits for no reader.
    ///
    /// # Errors
    /// [`StreamError`], where the stream is known to go no further.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.push_what_is_left();
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Pushes what was left for later. The rest is pushed, or another thread is pushing it.
    pub(super) fn push_what_is_left(&mut self) {
        if self.left {
            self.push_now();
        } else {
            self.route.peer.see_pushed();
        }
    }

    /// As [`StreamSender::push`], however little it is.
    fn push_now(&mut self) {
        self.pushed = self.sent;
        self.left = false;
        self.route.peer.flush_much();
    }

    /// Commits a part of `rest` in one message, as much as fits and credit allows; not pushed yet. How much.
    pub(super) fn poll_commit(
        &mut self,
        waker: &Waker,
        rest: &mut Pieces<'_>,
        kind: u8,
    ) -> Poll<Result<usize, StreamError>> {
        if self.end != End::Open {
            return Poll::Ready(Err(StreamError::Finished));
        }
        let wanted = rest.len().min(self.chunk);
        let least = wanted.min(LEAST);
        loop {
            // `sent` is below `consumed + window`, as `poll_hear` keeps it.
            let credit = (self.consumed + self.window - self.sent).saturating_sub(OVERHEAD) as usize;
            if credit >= least
                && self.failed.is_none()
                && self.window - (self.sent - self.consumed) >= OVERHEAD
            {
                let len = wanted.min(credit);
                let kind = if len < rest.len() { forward::PART } else { kind };
                match self.poll_message(waker, kind, len, |payload| rest.copy_to(payload)) {
                    Poll::Ready(Ok(())) => {
                        rest.advance(len);
                        self.sent += len as u64 + OVERHEAD;
                        return Poll::Ready(Ok(len));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            // What was committed has to leave, or the credit never comes.
            self.route.peer.flush();
            match self.poll_hear(waker) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Pushes what was committed, or leaves it to whoever drives the node, as long as it is not much.
    pub(super) fn push(&mut self) {
        if self.sent - self.pushed < MUCH {
            self.left |= self.route.peer.flush_soon();
        } else {
            self.pushed = self.sent;
            self.route.peer.flush();
        }
    }

    /// Commits one message with a payload of `len` bytes, waiting for room in the ring and in the mailbox.
    fn poll_message(
        &mut self,
        waker: &Waker,
        kind: u8,
        len: usize,
        write: impl Fn(&mut [u8]),
    ) -> Poll<Result<(), StreamError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let mut registered = None;
        loop {
            let committed = self.route.commit_with(1 + len, |message| {
                message[0] = kind;
                write(&mut message[1..]);
            });
            match committed {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.is_full() => {
                    if registered.as_ref() == Some(&error) {
                        self.route.peer.flush();
                        return Poll::Pending;
                    }
                    self.route.register(&error, waker);
                    registered = Some(error);
                }
                Err(error) => {
                    let why = match error {
                        SendError::SessionOver(ended) => StreamError::SessionOver(ended),
                        SendError::MailboxClosed { .. } => StreamError::Stopped,
                        _ => StreamError::Violation("a mailbox that takes less than it said"),
                    };
                    return Poll::Ready(Err(self.fail(why)));
                }
            }
        }
    }

    fn fail(&mut self, why: StreamError) -> StreamError {
        self.failed.get_or_insert(why).clone()
    }

    /// Takes one message from the reader, or leaves the waker.
    fn poll_hear(&mut self, waker: &Waker) -> Poll<Result<(), StreamError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let Poll::Ready(range) = self.back.poll_take(waker) else {
            // Looked at after the waker was left: the end of a session sets this first, then wakes.
            return match self.route.peer.ended() {
                Some(ended) => Poll::Ready(Err(self.fail(StreamError::SessionOver(ended)))),
                None => Poll::Pending,
            };
        };
        let heard = match self.back.bytes(range) {
            [back::CREDIT, position @ ..] => match <[u8; 8]>::try_from(position).map(u64::from_le_bytes) {
                Ok(position) if (self.consumed..=self.sent).contains(&position) => {
                    self.consumed = position;
                    Ok(())
                }
                _ => Err(StreamError::Violation("credit for what was never sent")),
            },
            [back::FINISHED] if self.end == End::Sent => {
                self.consumed = self.sent;
                self.end = End::Acknowledged;
                Ok(())
            }
            [back::STOPPED] => Err(StreamError::Stopped),
            _ => Err(StreamError::Violation("an unknown answer of the reader")),
        };
        Poll::Ready(heard.map_err(|error| self.fail(error)))
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        self.back.discard();
        if self.end == End::Open && self.failed.is_none() {
            send_last_word(&self.route, &[forward::ABORT]);
        }
    }
}

impl std::fmt::Debug for StreamSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSender")
            .field("peer", &self.route.peer.identity.node)
            .field("sent", &self.sent)
            .field("consumed", &self.consumed)
            .finish()
    }
}

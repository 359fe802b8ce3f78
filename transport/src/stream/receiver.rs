//! The reading half: lends bytes where they lie in its mailbox, and gives credit for what was taken.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wire::{back, credit, forward};
use super::{OVERHEAD, StreamError, send_last_word};
use crate::address::{Route, SendError};
use crate::mailbox::Mailbox;
use crate::peer::Peer;

/// The half of a stream that reads. Dropped before the end, it stops the writer.
pub struct StreamReceiver {
    mailbox: Mailbox,
    back: Arc<Route>,
    window: u64,
    /// What of the message that was taken last has not been read.
    held: Range<usize>,
    /// Charged bytes: what has come in, what of it has been taken, what of that the writer is told, what of that has left.
    received: u64,
    consumed: u64,
    told: u64,
    surely_told: u64,
    /// The writer waits for an answer.
    asked: bool,
    ended: bool,
    /// The writer knows that the end has been taken.
    end_told: bool,
    failed: Option<StreamError>,
}

/// What a message brought.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Bytes, now held. In a stream of frames, whether they end one.
    Bytes { last: bool },
    /// The end of the stream.
    End,
}

impl StreamReceiver {
    pub(super) fn new(mailbox: Mailbox, back: Arc<Route>, window: u32) -> StreamReceiver {
        StreamReceiver {
            mailbox,
            back,
            window: u64::from(window),
            held: 0..0,
            received: 0,
            consumed: 0,
            told: 0,
            surely_told: 0,
            asked: false,
            ended: false,
            end_told: false,
            failed: None,
        }
    }

    /// The peer at the other end.
    pub fn peer(&self) -> Peer {
        Peer(self.back.peer.clone())
    }

    /// Reads what is there into `buffer`, at least one byte unless it is empty; how many. Zero at the end of the stream.
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// As [`StreamReceiver::read`], without the future.
    ///
    /// # Errors
    /// As [`StreamReceiver::read`].
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        let mut filled = 0;
        self.poll_read_with(context, buffer.len(), |bytes| {
            buffer[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        })
    }

    /// Gives what is there to `put`, piece by piece, `room` bytes at most; how many.
    pub(super) fn poll_read_with(
        &mut self,
        context: &mut Context<'_>,
        room: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Poll<Result<usize, StreamError>> {
        let mut filled = 0;
        // With something in hand nothing is asked for that is not there: the waker would be left for a wake-up that nobody needs.
        while filled < room && (filled == 0 || !self.held.is_empty() || self.mailbox.may_fill()) {
            match self.poll_lend(context.waker()) {
                Poll::Ready(Ok(&[])) => break,
                Poll::Ready(Ok(bytes)) => {
                    let len = bytes.len().min(room - filled);
                    put(&bytes[..len]);
                    self.take(len);
                    filled += len;
                }
                // The error comes with the next call.
                _ if filled > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(filled))
    }

    /// The bytes that come next, lent where they lie; empty at the end of the stream. [`StreamReceiver::take`] moves on.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn poll_lend(&mut self, waker: &Waker) -> Poll<Result<&[u8], StreamError>> {
        while self.held.is_empty() && !self.ended {
            match self.poll_message(waker) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.mailbox.bytes(self.held.clone())))
    }

    /// Takes `len` of the bytes that were lent, or all of them if they are fewer.
    pub fn take(&mut self, len: usize) {
        if self.held.is_empty() {
            return;
        }
        self.held.start += len.min(self.held.len());
        if self.held.is_empty() {
            self.count();
        }
    }

    /// A message counts when all of it has been taken: everything received has been, then. With a quarter of the window taken that
    /// it has not been told of, the writer is told; of an eighth by the way, if something goes back before that.
    fn count(&mut self) {
        self.consumed = self.received;
        if self.consumed - self.told >= self.window / 8 {
            if !self.back.peer.is_left_to_next_push() {
                self.surely_told = self.told;
            }
            if self.consumed - self.surely_told >= self.window / 4 {
                self.asked = true;
                self.answer(None);
            } else if self.commit_answer().is_ok() {
                self.told = self.consumed;
                self.back.peer.leave_to_next_push();
            }
        }
    }

    /// The bytes held.
    pub(super) fn held(&self, range: Range<usize>) -> &[u8] {
        self.mailbox.bytes(range)
    }

    pub(super) fn held_range(&self) -> Range<usize> {
        self.held.clone()
    }

    /// Takes the next message, once nothing is held any more.
    pub(super) fn poll_message(&mut self, waker: &Waker) -> Poll<Result<Came, StreamError>> {
        if self.owes_an_answer() {
            self.answer(Some(waker));
        }
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if self.ended {
            return Poll::Ready(Ok(Came::End));
        }
        // What was held goes when the mailbox is asked for more.
        self.held = 0..0;
        loop {
            let Poll::Ready(range) = self.mailbox.poll_take(waker) else {
                // Looked at after the waker was left: the end of a session sets this first, then wakes.
                return match self.back.peer.ended() {
                    Some(ended) => Poll::Ready(Err(self.fail(StreamError::SessionOver(ended)))),
                    None => Poll::Pending,
                };
            };
            let payload = range.len().saturating_sub(1);
            // Copied once: the byte lies in this process's own queue.
            let kind = self.mailbox.bytes(range.clone()).first().copied();
            match kind {
                Some(kind @ (forward::PART | forward::LAST)) => {
                    self.received += payload as u64 + OVERHEAD;
                    if self.received > self.told + self.window {
                        return Poll::Ready(Err(self.fail(StreamError::Violation("more than its credit"))));
                    }
                    self.held = range.start + 1..range.end;
                    if payload == 0 {
                        self.count();
                    }
                    let last = kind == forward::LAST;
                    if payload > 0 || last {
                        return Poll::Ready(Ok(Came::Bytes { last }));
                    }
                }
                Some(forward::FINISH) if payload == 0 => {
                    self.ended = true;
                    self.answer(Some(waker));
                    return Poll::Ready(Ok(Came::End));
                }
                Some(forward::ASK) if payload == 0 => {
                    self.asked = true;
                    self.answer(Some(waker));
                }
                Some(forward::ABORT) if payload == 0 => {
                    return Poll::Ready(Err(self.fail(StreamError::Aborted)));
                }
                _ => {
                    return Poll::Ready(Err(
                        self.fail(StreamError::Violation("an unknown message of the writer"))
                    ));
                }
            }
        }
    }

    #[inline]
    fn owes_an_answer(&self) -> bool {
        self.asked || self.ended && !self.end_told
    }

    /// Tells the writer what it waits for. Without room it is told later: at the latest when `waker` is woken.
    fn answer(&mut self, waker: Option<&Waker>) {
        if !self.owes_an_answer() {
            return;
        }
        let mut registered = None;
        loop {
            match self.commit_answer() {
                Err(error) if error.is_full() => {
                    if waker.is_none() || registered.as_ref() == Some(&error) {
                        return;
                    }
                    waker
                        .into_iter()
                        .for_each(|waker| self.back.register(&error, waker));
                    registered = Some(error);
                }
                // A writer that is gone needs no answer; a session that is over shows when the mailbox is empty.
                Ok(()) | Err(_) => {
                    self.back.peer.flush();
                    self.told = self.consumed;
                    self.surely_told = self.consumed;
                    self.asked = false;
                    self.end_told = self.ended;
                    return;
                }
            }
        }
    }

    /// Commits what the writer is to be told; not pushed yet.
    fn commit_answer(&self) -> Result<(), SendError> {
        match self.ended {
            true => self.back.commit_parts(&[back::FINISHED], &[]),
            false => self.back.commit_parts(&credit(self.consumed), &[]),
        }
    }

    pub(super) fn fail(&mut self, why: StreamError) -> StreamError {
        self.failed.get_or_insert(why).clone()
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        self.mailbox.discard();
        if !self.ended {
            if self.failed != Some(StreamError::Aborted) {
                send_last_word(&self.back, &[back::STOPPED]);
            }
        } else if !self.end_told {
            send_last_word(&self.back, &[back::FINISHED]);
        }
    }
}

impl std::fmt::Debug for StreamReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReceiver")
            .field("peer", &self.back.peer.identity.node)
            .field("received", &self.received)
            .field("consumed", &self.consumed)
            .finish()
    }
}

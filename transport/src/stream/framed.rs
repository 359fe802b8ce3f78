//! Streams seen as frames: each arrives whole, however long it is.

use std::future::poll_fn;
use std::io::IoSlice;
use std::ops::Range;
use std::task::{Context, Poll};

use super::pieces::Pieces;
use super::receiver::Came;
use super::wire::forward;
use super::{StreamError, StreamReceiver, StreamSender};
use crate::peer::Peer;

impl StreamSender {
    /// This half as a sender of frames. The other end has to receive frames, too.
    pub fn framed(self) -> FrameSender {
        FrameSender(self)
    }
}

impl StreamReceiver {
    /// This half as a receiver of frames of at most `max_frame` bytes. The other end has to send frames, too.
    pub fn framed(self, max_frame: usize) -> FrameReceiver {
        FrameReceiver {
            stream: self,
            max_frame,
            parts: Vec::new(),
            lent: Lent::Nothing,
        }
    }
}

/// Sends frames. As [`StreamSender`], it breaks the stream off when it is dropped before [`FrameSender::finish`].
#[derive(Debug)]
pub struct FrameSender(StreamSender);

impl FrameSender {
    /// Sends one frame, of any length, waiting for credit. Cancelled while it waits, it may have sent a part of the frame:
    /// then the stream must not be used any more.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), StreamError> {
        let pieces = [IoSlice::new(frame)];
        let mut rest = Pieces::new(&pieces);
        let done = poll_fn(|context| self.poll_frame(context, &mut rest)).await;
        self.0.push();
        done
    }

    /// Sends several frames, which leave together as far as there is credit.
    ///
    /// # Errors
    /// As [`FrameSender::send`]; then some of the frames may have been sent.
    pub async fn send_batch<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> Result<(), StreamError> {
        let mut done = Ok(());
        for frame in frames {
            let pieces = [IoSlice::new(frame.as_ref())];
            let mut rest = Pieces::new(&pieces);
            done = poll_fn(|context| self.poll_frame(context, &mut rest)).await;
            if done.is_err() {
                break;
            }
        }
        self.0.push();
        done
    }

    /// Commits what is left of a frame, the empty one included.
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        rest: &mut Pieces<'_>,
    ) -> Poll<Result<(), StreamError>> {
        loop {
            match self.0.poll_commit(context.waker(), rest, forward::LAST) {
                Poll::Ready(Ok(_)) if rest.len() == 0 => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Ends the stream, and waits until the reader has taken every frame and has seen the end.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.0.finish().await
    }

    /// Has what was sent leave now: see [`StreamSender::flush`].
    ///
    /// # Errors
    /// As [`StreamSender::flush`].
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.0.flush().await
    }

    /// Waits until the reader has taken every frame sent so far.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn acknowledged(&mut self) -> Result<(), StreamError> {
        self.0.acknowledged().await
    }

    /// The peer at the other end.
    pub fn peer(&self) -> Peer {
        self.0.peer()
    }
}

/// Receives frames.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: StreamReceiver,
    max_frame: usize,
    /// The parts of a frame that did not come in one message.
    parts: Vec<u8>,
    lent: Lent,
}

/// Where the frame lies that was lent last.
#[derive(Debug)]
enum Lent {
    Nothing,
    InTheStream(Range<usize>),
    InParts,
}

impl FrameReceiver {
    /// The next frame, lent until the next call; `None` at the end of the stream. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::FrameTooLong`] before more than the limit is kept of a frame.
    pub async fn recv(&mut self) -> Result<Option<&[u8]>, StreamError> {
        let came = poll_fn(|context| self.poll_frame(context)).await?;
        Ok(came.then(|| self.lent()))
    }

    fn lent(&self) -> &[u8] {
        match &self.lent {
            Lent::InTheStream(range) => self.stream.held(range.clone()),
            Lent::InParts => &self.parts,
            Lent::Nothing => &[],
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        if let Lent::InParts = std::mem::replace(&mut self.lent, Lent::Nothing) {
            self.parts.clear();
        }
        loop {
            let last = match self.stream.poll_message(context.waker()) {
                Poll::Ready(Ok(Came::Bytes { last })) => last,
                Poll::Ready(Ok(Came::End)) if self.parts.is_empty() => return Poll::Ready(Ok(false)),
                Poll::Ready(Ok(Came::End)) => {
                    let why = StreamError::Violation("the end of the stream within a frame");
                    return Poll::Ready(Err(self.stream.fail(why)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let range = self.stream.held_range();
            if self.parts.len() + range.len() > self.max_frame {
                let why = StreamError::FrameTooLong { max: self.max_frame };
                return Poll::Ready(Err(self.stream.fail(why)));
            }
            // What is taken stays where it lies until the next message is.
            if last && self.parts.is_empty() {
                self.stream.take(range.len());
                self.lent = Lent::InTheStream(range);
                return Poll::Ready(Ok(true));
            }
            self.parts.extend_from_slice(self.stream.held(range.clone()));
            self.stream.take(range.len());
            if last {
                self.lent = Lent::InParts;
                return Poll::Ready(Ok(true));
            }
        }
    }
}

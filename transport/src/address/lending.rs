//! Sending buffers of the node, which a link that sends from memory itself takes where they lie.

use std::future::poll_fn;
use std::time::Duration;

use super::content::Content;
use super::{Address, SendError, Unsent};
use crate::buffer::Buffer;
use crate::trace::Tagged;

impl Address {
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
        self.try_send_content(Content::Buffer(&buffer), correlation)
            .map_err(|why| Unsent {
                why,
                buffer: buffer.unless_lent(),
            })
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
        if let Some(mut stream) = self.stream(Content::Buffer(buffer), &tags) {
            return self.waiting(timeout, |waker| stream.poll(waker));
        }
        self.waiting_for_room(timeout, || self.try_send_content(Content::Buffer(buffer), tags))
    }

    /// As [`Address::send_async`], of a buffer: see [`Address::try_send_buffer`].
    ///
    /// # Errors
    /// As [`Address::send_buffer`].
    pub async fn send_buffer_async(&self, buffer: Buffer) -> Result<(), SendError> {
        if let Some(mut stream) = self.stream(Content::Buffer(&buffer), &None::<u64>) {
            return poll_fn(|context| stream.poll(context.waker())).await;
        }
        let attempt = || self.try_send_content(Content::Buffer(&buffer), None::<u64>);
        self.attempt_async(attempt).await
    }
}

//! Sending typed messages in a span: see [`crate::trace`].

use std::time::Duration;

use crate::trace::{Tags, TraceContext};
use crate::typed::{Address, Protocol, Question};
use crate::{AskError, SendError};

/// An address through which messages are sent in a span: [`Address::traced`].
#[derive(Debug)]
pub struct Traced<'a, M: Protocol> {
    address: &'a Address<M>,
    context: Option<TraceContext>,
}

impl<M: Protocol> Address<M> {
    /// This address, for messages that carry a trace context; with `None`, for ordinary ones. A peer that does not know
    /// trace contexts is sent none.
    pub fn traced(&self, context: impl Into<Option<TraceContext>>) -> Traced<'_, M> {
        Traced {
            address: self,
            context: context.into(),
        }
    }
}

impl<M: Protocol> Traced<'_, M> {
    fn tags(&self, correlation: Option<u64>) -> Tags<'_> {
        Tags {
            correlation,
            trace: self.context.as_ref(),
        }
    }

    /// As [`Address::try_send`].
    ///
    /// # Errors
    /// As [`Address::try_send`].
    pub fn try_send(&self, message: &M) -> Result<(), SendError> {
        self.address.try_write(message, self.tags(None))
    }

    /// As [`Address::send`].
    ///
    /// # Errors
    /// As [`Address::send`].
    pub fn send(&self, message: &M) -> Result<(), SendError> {
        self.address.send_tagged(message, self.tags(None), None)
    }

    /// As [`Address::send_timeout`].
    ///
    /// # Errors
    /// As [`Address::send_timeout`].
    pub fn send_timeout(&self, message: &M, timeout: Duration) -> Result<(), SendError> {
        self.address.send_tagged(message, self.tags(None), Some(timeout))
    }

    /// As [`Address::send_async`].
    ///
    /// # Errors
    /// As [`Address::send_async`].
    pub async fn send_async(&self, message: &M) -> Result<(), SendError> {
        self.address.send_tagged_async(message, self.tags(None)).await
    }

    /// As [`Address::ask`]: the question carries the context.
    ///
    /// # Errors
    /// As [`Address::ask`].
    pub fn ask(&self, question: &M, timeout: Duration) -> Result<M::Answer, AskError>
    where
        M: Question,
    {
        self.address.ask_writing(timeout, |number| {
            self.address.try_write(question, self.tags(Some(number)))
        })
    }

    /// As [`Address::ask_async`]: the question carries the context.
    ///
    /// # Errors
    /// As [`Address::ask_async`].
    pub async fn ask_async(&self, question: &M, timeout: Duration) -> Result<M::Answer, AskError>
    where
        M: Question,
    {
        let write = |number| self.address.try_write(question, self.tags(Some(number)));
        self.address.ask_writing_async(timeout, write).await
    }
}

//! Spans at the sender.

use tracing::Span;
use transport::typed::Protocol;

use crate::context_of;

/// An address that messages can be sent through in a span.
pub trait SendInSpan {
    /// The address with the trace context of a span.
    type Traced<'a>
    where
        Self: 'a;

    /// A span of sending to this address, inside the current one: `send`, of kind producer, with the mailbox and its node.
    /// It ends when it is dropped; while a question is asked in it, keep it until the answer has come.
    fn sending(&self) -> Span;

    /// This address, for messages that are sent in `span`: their receiver's spans become its children.
    fn in_span<'a>(&'a self, span: &Span) -> Self::Traced<'a>;
}

fn sending(mailbox: &str, node: Option<&str>) -> Span {
    tracing::info_span!("send", otel.kind = "producer", mailbox, node)
}

impl SendInSpan for transport::Address {
    type Traced<'a> = transport::trace::Traced<'a>;

    fn sending(&self) -> Span {
        sending(self.mailbox(), self.node())
    }

    fn in_span<'a>(&'a self, span: &Span) -> Self::Traced<'a> {
        self.traced(context_of(span))
    }
}

impl<M: Protocol> SendInSpan for transport::typed::Address<M> {
    type Traced<'a>
        = transport::typed::Traced<'a, M>
    where
        M: 'a;

    fn sending(&self) -> Span {
        sending(self.raw().mailbox(), self.raw().node())
    }

    fn in_span<'a>(&'a self, span: &Span) -> Self::Traced<'a> {
        self.traced(context_of(span))
    }
}

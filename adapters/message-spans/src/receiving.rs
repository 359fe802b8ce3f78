//! Spans at the receiver.

use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use transport::typed::Protocol;
use transport::{Peer, TraceContext};

use crate::remote;

/// A message that was taken from a mailbox.
pub trait Received {
    /// A span of handling this message, which was taken from `mailbox`: `receive`, of kind consumer, with the mailbox, the
    /// sender's node and the correlation id. If the message carries a trace context it is the child of the span in which it
    /// was sent, otherwise of the current one.
    fn receiving(&self, mailbox: &str) -> Span;
}

fn receiving(
    mailbox: &str,
    from: Option<Peer>,
    correlation: Option<u64>,
    trace: Option<&TraceContext>,
) -> Span {
    let from = from.as_ref().map(Peer::node);
    let span = tracing::info_span!("receive", otel.kind = "consumer", mailbox, from, correlation);
    if let Some(trace) = trace {
        // Refused without a layer that would export it, or for a span that is disabled: then there is nothing to join.
        let _ = span.set_parent(remote(trace));
    }
    span
}

impl Received for transport::Message<'_> {
    fn receiving(&self, mailbox: &str) -> Span {
        receiving(mailbox, self.peer(), self.correlation, self.trace)
    }
}

impl<M: Protocol> Received for transport::typed::Message<'_, M> {
    fn receiving(&self, mailbox: &str) -> Span {
        receiving(mailbox, self.peer(), self.correlation(), self.trace())
    }
}

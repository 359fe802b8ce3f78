#![doc = include_str!("../README.md")]

mod receiving;
mod sending;

pub use receiving::Received;
pub use sending::SendInSpan;

use opentelemetry::trace::{SpanContext, TraceContextExt, TraceState};
use opentelemetry::{SpanId, TraceFlags, TraceId};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use transport::TraceContext;

/// What messages sent in this span carry. `None` when the program has no subscriber with a layer of `tracing_opentelemetry`,
/// or the span is disabled.
pub fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    TraceContext::new(
        span.trace_id().to_bytes(),
        span.span_id().to_bytes(),
        span.trace_flags().to_u8(),
    )
}

/// The sender's span, as OpenTelemetry has it.
fn remote(context: &TraceContext) -> opentelemetry::Context {
    opentelemetry::Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(context.trace_id()),
        SpanId::from_bytes(context.span_id()),
        TraceFlags::new(context.flags()),
        true,
        TraceState::NONE,
    ))
}

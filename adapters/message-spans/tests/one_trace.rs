//! Spans of a sender and of a receiver, as OpenTelemetry gets them.

use std::sync::{Mutex, PoisonError};

use message_spans::{Received, SendInSpan, context_of};
use opentelemetry::trace::{SpanKind, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;
use transport::{MailboxOptions, Node};

/// What is known of who listens to a span is the process's: a subscriber that comes while another test makes the same span for the
/// first time may miss its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn node() -> Node {
    Node::builder("a")
        .secret(b"at least sixteen bytes")
        .start()
        .unwrap()
}

#[test]
fn the_receivers_span_is_a_child_of_the_senders_in_the_same_trace() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let node = node();
    let mut inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = node.address("inbox").unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let order = tracing::info_span!("order").entered();
        let sending = address.sending();
        address.in_span(&sending).send(b"a secret").unwrap();
        drop((sending, order));
        let message = inbox.recv().unwrap();
        drop(message.receiving("inbox").entered());
    });
    let spans = exporter.get_finished_spans().unwrap();
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect("a span");
    let (order, send, receive) = (named("order"), named("send"), named("receive"));
    assert_eq!(send.parent_span_id, order.span_context.span_id());
    assert_eq!(receive.parent_span_id, send.span_context.span_id());
    assert!(receive.parent_span_is_remote);
    for span in [send, receive] {
        assert_eq!(span.span_context.trace_id(), order.span_context.trace_id());
    }
    assert_eq!(
        (&send.span_kind, &receive.span_kind),
        (&SpanKind::Producer, &SpanKind::Consumer)
    );
    assert!(!format!("{spans:?}").contains("secret"));
}

#[test]
fn without_a_subscriber_messages_carry_no_context() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node();
    let mut inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = node.address("inbox").unwrap();
    assert_eq!(context_of(&Span::current()), None);
    address.in_span(&address.sending()).send(b"ordinary").unwrap();
    let message = inbox.recv().unwrap();
    assert!(message.trace.is_none() && context_of(&message.receiving("inbox")).is_none());
}

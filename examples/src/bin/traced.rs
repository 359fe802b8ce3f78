//! One trace over two processes: `traced serve ADDRESS` prices orders, `traced order ADDRESS ITEM` asks it. Each process exports
//! its own spans by OpenTelemetry, here to its standard output; any other exporter goes in its place.

use std::process::ExitCode;
use std::time::Duration;

use examples::Outcome;
use message_spans::{Received, SendInSpan};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use transport::MailboxOptions;
use transport::typed::{Postcard, Protocol, Question};

/// What does it cost?
#[derive(Debug, Serialize, Deserialize)]
struct Price {
    item: String,
}

impl Protocol for Price {
    const NAME: &'static str = "price";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

impl Question for Price {
    type Answer = u32;
}

/// Sends the spans of this program to OpenTelemetry. Whoever holds the provider shuts it down, so that no span is lost.
fn export_spans(service: &'static str) -> Result<SdkTracerProvider, Box<dyn std::error::Error>> {
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("traced"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    Ok(provider)
}

fn serve(address: &str) -> Outcome {
    let _provider = export_spans("prices")?;
    let node = examples::node("prices").listen(address).start()?;
    let mut inbox = node.typed_mailbox::<Price>("prices", MailboxOptions::default())?;
    println!("open at {}", node.addresses()[0]);
    loop {
        let question = inbox.recv()?;
        // Of the span in the other process that asked.
        let span = question.receiving("prices");
        let price = span.in_scope(|| look_up(&question.body.item));
        if let Some(asker) = question.asker() {
            // Whoever asked has gone, or will see its deadline.
            let _ = asker.answer(&price);
        }
    }
}

#[tracing::instrument(skip_all)]
fn look_up(item: &str) -> u32 {
    item.len() as u32 * 10
}

fn order(address: &str, item: &str) -> Outcome {
    let provider = export_spans("orders")?;
    let node = examples::node("orders").start()?;
    let prices = node.connect(address)?.typed_address::<Price>("prices")?;
    let price = tracing::info_span!("order").in_scope(|| {
        let sending = prices.sending();
        let question = Price {
            item: item.to_owned(),
        };
        prices.in_span(&sending).ask(&question, Duration::from_secs(10))
    })?;
    println!("{price}");
    provider.shutdown()?;
    Ok(())
}

fn main() -> ExitCode {
    examples::main(|arguments| match arguments {
        ["serve", address] => serve(address),
        ["order", address, item] => order(address, item),
        _ => Err("traced serve ADDRESS, or traced order ADDRESS ITEM".into()),
    })
}

//! An event as one line of JSON.

use std::io::{self, Write};

use pmem_journal::{EntityId, Recorded};
use serde_json::{Map, Value, json};

/// Thirty-two hex digits are an id, anything else a name.
pub(crate) fn entity(text: &str) -> EntityId {
    let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(id) if hex => EntityId(id),
        _ => EntityId::named(text),
    }
}

pub(crate) fn write_event(out: &mut impl Write, event: &Recorded<'_>) -> io::Result<()> {
    write(out, object(event))
}

/// As [`write_event`], and says where a batch ends.
pub(crate) fn write_event_of_batch(out: &mut impl Write, event: &Recorded<'_>) -> io::Result<()> {
    let mut object = object(event);
    if event.batch_end {
        object.insert("batch_end".into(), true.into());
    }
    write(out, object)
}

fn write(out: &mut impl Write, object: Map<String, Value>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Value::Object(object))?;
    out.write_all(b"\n")
}

fn object(event: &Recorded<'_>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("position".into(), event.position.into());
    object.insert("entity".into(), event.entity.to_string().into());
    object.insert("sequence".into(), event.sequence.into());
    object.insert("kind".into(), event.kind.into());
    object.insert("schema_version".into(), event.schema_version.into());
    object.insert("timestamp_ns".into(), event.timestamp.into());
    if event.idempotency_key != 0 {
        object.insert(
            "idempotency_key".into(),
            json!(format!("{:032x}", event.idempotency_key)),
        );
    }
    if let Some(id) = event.correlation() {
        object.insert("correlation".into(), json!(format!("{id:032x}")));
    }
    let tags: Vec<&str> = event.tags().collect();
    if !tags.is_empty() {
        object.insert("tags".into(), tags.into());
    }
    match std::str::from_utf8(event.payload) {
        Ok(text) => object.insert("payload".into(), text.into()),
        Err(_) => object.insert("payload_hex".into(), json!(hex(event.payload))),
    };
    object
}

/// The bytes of pairs of hex digits; `None` if they are not.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| (*b as char).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
            _ => None,
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

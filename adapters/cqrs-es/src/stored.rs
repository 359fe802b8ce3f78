//! What an event and a snapshot of `cqrs-es` are in the journal: JSON, with the names that an entity's hash does not tell.

use cqrs_es::persist::{PersistenceError, SerializedEvent, SerializedSnapshot};
use event_streams::{KeptSnapshot, NewEvent};
use pmem_journal::{EntityId, OwnedEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The journal's kinds of our events.
const EVENT: u16 = 0xce01;
const SNAPSHOT: u16 = 0xce02;
/// Version of the layout below; the version of the payload is the application's and stands within.
const LAYOUT: u16 = 1;

#[derive(Serialize, Deserialize)]
struct StoredEvent {
    aggregate_type: String,
    aggregate_id: String,
    event_type: String,
    event_version: String,
    payload: Value,
    metadata: Value,
}

#[derive(Serialize, Deserialize)]
struct StoredSnapshot {
    aggregate_type: String,
    aggregate_id: String,
    aggregate: Value,
    sequence: usize,
    number: usize,
}

/// The stream of an aggregate. The lengths keep two pairs of names apart that read the same when joined.
pub(crate) fn stream(aggregate_type: &str, aggregate_id: &str) -> EntityId {
    EntityId::named(&format!(
        "cqrs-es {} {aggregate_type} {aggregate_id}",
        aggregate_type.len()
    ))
}

/// The label of all events of a type of aggregate.
pub(crate) fn tag(aggregate_type: &str) -> String {
    format!("cqrs-es:{aggregate_type}")
}

pub(crate) fn event(event: &SerializedEvent) -> Result<NewEvent, PersistenceError> {
    let stored = StoredEvent {
        aggregate_type: event.aggregate_type.clone(),
        aggregate_id: event.aggregate_id.clone(),
        event_type: event.event_type.clone(),
        event_version: event.event_version.clone(),
        payload: event.payload.clone(),
        metadata: event.metadata.clone(),
    };
    Ok(NewEvent {
        kind: EVENT,
        schema_version: LAYOUT,
        payload: serde_json::to_vec(&stored)?,
        tags: vec![tag(&event.aggregate_type)],
    })
}

pub(crate) fn snapshot(
    aggregate_type: &str,
    aggregate_id: String,
    aggregate: Value,
    sequence: usize,
    number: usize,
) -> Result<NewEvent, PersistenceError> {
    let stored = StoredSnapshot {
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id,
        aggregate,
        sequence,
        number,
    };
    Ok(NewEvent {
        kind: SNAPSHOT,
        schema_version: LAYOUT,
        payload: serde_json::to_vec(&stored)?,
        tags: Vec::new(),
    })
}

pub(crate) fn read_event(event: &OwnedEvent) -> Result<SerializedEvent, PersistenceError> {
    check("event", event.position, (event.kind, event.schema_version), EVENT)?;
    let stored: StoredEvent = serde_json::from_slice(&event.payload)?;
    Ok(SerializedEvent::new(
        stored.aggregate_id,
        usize::try_from(event.sequence).unwrap_or(usize::MAX),
        stored.aggregate_type,
        stored.event_type,
        stored.event_version,
        stored.payload,
        stored.metadata,
    ))
}

pub(crate) fn read_snapshot(kept: &KeptSnapshot) -> Result<SerializedSnapshot, PersistenceError> {
    check(
        "snapshot",
        kept.position,
        (kept.kind, kept.schema_version),
        SNAPSHOT,
    )?;
    let stored: StoredSnapshot = serde_json::from_slice(&kept.payload)?;
    Ok(SerializedSnapshot {
        aggregate_id: stored.aggregate_id,
        aggregate: stored.aggregate,
        current_sequence: stored.sequence,
        current_snapshot: stored.number,
    })
}

fn check(what: &str, position: u64, found: (u16, u16), kind: u16) -> Result<(), PersistenceError> {
    if found == (kind, LAYOUT) {
        return Ok(());
    }
    let (found, layout) = found;
    Err(PersistenceError::UnknownError(
        format!(
            "{what} at position {position} is of kind {found:#x} and layout {layout}, where {kind:#x} and {LAYOUT} are \
             known: it was written by another program, or by a newer version of this one"
        )
        .into(),
    ))
}

//! What a snapshot of a stream is in the journal: one of the journal's own, or an event where it is of events that the
//! journal does not have.

use pmem_journal::{OwnedEvent, Snapshot};

use crate::NewEvent;

/// A snapshot that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// How many events of its stream it is of.
    pub length: u64,
    /// The application's number for this type of snapshot.
    pub kind: u16,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// The snapshot itself.
    pub payload: Vec<u8>,
    /// The place in the journal that it goes with, to name it by.
    pub position: u64,
}

/// The payload of a snapshot of the journal, which has no kind of its own: the kind, little-endian, then the caller's.
pub(crate) fn payload(snapshot: &NewEvent) -> Vec<u8> {
    [&snapshot.kind.to_le_bytes()[..], &snapshot.payload].concat()
}

/// `None` when another program saved it.
pub(crate) fn of_journal(snapshot: Snapshot) -> Option<KeptSnapshot> {
    let (kind, payload) = snapshot.payload.split_first_chunk()?;
    Some(KeptSnapshot {
        length: snapshot.sequence,
        kind: u16::from_le_bytes(*kind),
        schema_version: snapshot.schema_version,
        payload: payload.to_vec(),
        position: snapshot.position,
    })
}

/// As an event: the length, little-endian, then the caller's payload.
pub(crate) fn as_event(length: u64, snapshot: NewEvent) -> NewEvent {
    NewEvent {
        payload: [&length.to_le_bytes()[..], &snapshot.payload].concat(),
        ..snapshot
    }
}

/// `None` when another program appended it.
pub(crate) fn of_event(event: OwnedEvent) -> Option<KeptSnapshot> {
    let (length, payload) = event.payload.split_first_chunk()?;
    Some(KeptSnapshot {
        length: u64::from_le_bytes(*length),
        kind: event.kind,
        schema_version: event.schema_version,
        payload: payload.to_vec(),
        position: event.position,
    })
}

//! A snapshot: an entity's state after one of its events, so that its history need not be read from the beginning.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::EntityId;

/// An entity's state after one of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose state.
    pub entity: EntityId,
    /// Sequence of the last event in it.
    pub sequence: u64,
    /// Position of that event.
    pub position: u64,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// Nanoseconds since 1970 when it was taken.
    pub timestamp: u64,
    /// The state, opaque to the journal; at most [`MAX_SNAPSHOT`](crate::MAX_SNAPSHOT) bytes.
    pub payload: Vec<u8>,
}

impl Snapshot {
    /// The state of `entity` after its event number `sequence`, which stands at `position`; of schema version 1, taken
    /// now.
    pub fn new(
        entity: impl Into<EntityId>,
        sequence: u64,
        position: u64,
        payload: impl Into<Vec<u8>>,
    ) -> Snapshot {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Snapshot {
            entity: entity.into(),
            sequence,
            position,
            schema_version: 1,
            timestamp: now.map_or(0, |now| now.as_nanos() as u64),
            payload: payload.into(),
        }
    }

    /// With a schema version.
    #[must_use]
    pub fn schema(self, schema_version: u16) -> Snapshot {
        Snapshot {
            schema_version,
            ..self
        }
    }
}

/// A snapshot that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSnapshot {
    /// Its file, in the journal's directory.
    pub file: String,
    /// What is wrong with it.
    pub cause: String,
}

/// The newest good snapshot of an entity, and the bad ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundSnapshot {
    /// The newest good one; `None` if there is none.
    pub snapshot: Option<Snapshot>,
    /// Those that could not be used. One of them may have been newer.
    pub refused: Vec<RefusedSnapshot>,
}

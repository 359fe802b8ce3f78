//! What goes in and what comes out: events, the entities they belong to, and what an append answers.
//!
//! Events borrow: an append copies each payload once, into the journal; reading lends it from the read buffer.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::extension;

/// 128 bits that name an entity: an account, an actor, an aggregate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId(pub u128);

impl EntityId {
    /// The entity with this name: the first 128 bits of its SHA-256, so equal names meet and others do not.
    pub fn named(name: &str) -> EntityId {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
        EntityId(u128::from_be_bytes(id))
    }
}

impl From<u128> for EntityId {
    fn from(id: u128) -> EntityId {
        EntityId(id)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A caller's name for one attempt at a change; zero stands for "none".
pub type IdempotencyKey = u128;

/// An event to append.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Whose history it belongs to.
    pub entity: EntityId,
    /// The application's number for this type of event.
    pub kind: u16,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// Appending again with the same entity and key answers with the first append; zero: no key.
    pub idempotency_key: IdempotencyKey,
    /// Labels to read by; each at most 255 bytes.
    pub tags: &'a [&'a str],
    /// What caused it, for tracing; `None` costs no bytes.
    pub correlation: Option<u128>,
    /// The event itself, opaque to the journal.
    pub payload: &'a [u8],
}

impl<'a> Event<'a> {
    /// An event without key, tags and correlation, of schema version 1.
    pub fn new(entity: impl Into<EntityId>, kind: u16, payload: &'a [u8]) -> Event<'a> {
        Event {
            entity: entity.into(),
            kind,
            schema_version: 1,
            idempotency_key: 0,
            tags: &[],
            correlation: None,
            payload,
        }
    }

    /// With an idempotency key.
    #[must_use]
    pub fn key(self, key: IdempotencyKey) -> Event<'a> {
        Event {
            idempotency_key: key,
            ..self
        }
    }

    /// With a schema version.
    #[must_use]
    pub fn schema(self, schema_version: u16) -> Event<'a> {
        Event {
            schema_version,
            ..self
        }
    }

    /// With tags.
    #[must_use]
    pub fn tags(self, tags: &'a [&'a str]) -> Event<'a> {
        Event { tags, ..self }
    }

    /// With a correlation id.
    #[must_use]
    pub fn correlation(self, id: u128) -> Event<'a> {
        Event {
            correlation: Some(id),
            ..self
        }
    }
}

/// Where the entities of a batch must be for it to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anywhere.
    Any,
    /// No entity of the batch has an event yet.
    None,
    /// The batch's one entity has exactly this many events (its last sequence; 0 is `None`).
    Exact(u64),
}

/// The answer to an append. Everything it speaks of is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Global position of the batch's first event.
    pub first_position: u64,
    /// Global position of the batch's last event.
    pub last_position: u64,
    /// Sequence of the batch's last event within its entity.
    pub sequence: u64,
    /// The batch had been appended before, under the same idempotency keys: these are its places from then.
    pub duplicate: bool,
}

/// An event as the journal holds it, lent from the read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Global position: 0, 1, 2, … without gaps.
    pub position: u64,
    /// Whose history it belongs to.
    pub entity: EntityId,
    /// 1, 2, 3, … without gaps within the entity.
    pub sequence: u64,
    /// The application's number for this type of event.
    pub kind: u16,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// The key it was appended under; zero: none.
    pub idempotency_key: IdempotencyKey,
    /// Nanoseconds since 1970, of the batch; never less than that of the event before.
    pub timestamp: u64,
    /// The last event of its batch: stop here and you hold whole batches only.
    pub batch_end: bool,
    /// The event itself.
    pub payload: &'a [u8],
    pub(crate) extension: &'a [u8],
}

impl<'a> Recorded<'a> {
    /// Its tags, in the order given.
    pub fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        extension::tags(self.extension)
    }

    /// Its correlation id.
    pub fn correlation(&self) -> Option<u128> {
        extension::correlation(self.extension)
    }

    /// A copy that lives on its own.
    pub fn to_owned(&self) -> OwnedEvent {
        OwnedEvent {
            position: self.position,
            entity: self.entity,
            sequence: self.sequence,
            kind: self.kind,
            schema_version: self.schema_version,
            idempotency_key: self.idempotency_key,
            timestamp: self.timestamp,
            tags: self.tags().map(str::to_owned).collect(),
            correlation: self.correlation(),
            payload: self.payload.to_vec(),
        }
    }
}

/// An event as the journal holds it, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is documented on `Recorded`")]
pub struct OwnedEvent {
    pub position: u64,
    pub entity: EntityId,
    pub sequence: u64,
    pub kind: u16,
    pub schema_version: u16,
    pub idempotency_key: IdempotencyKey,
    pub timestamp: u64,
    pub tags: Vec<String>,
    pub correlation: Option<u128>,
    pub payload: Vec<u8>,
}

impl OwnedEvent {
    /// As it was lent, with what it does not hold itself.
    pub(crate) fn lend<'a>(&'a self, extension: &'a [u8], batch_end: bool) -> Recorded<'a> {
        Recorded {
            position: self.position,
            entity: self.entity,
            sequence: self.sequence,
            kind: self.kind,
            schema_version: self.schema_version,
            idempotency_key: self.idempotency_key,
            timestamp: self.timestamp,
            batch_end,
            payload: &self.payload,
            extension,
        }
    }
}

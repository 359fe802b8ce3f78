//! Events and snapshots of `tellus` in a journal.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::Arc;

use event_streams::{KeptSnapshot, NewEvent, Streams};
use pmem_journal::{EntityId, Error, Journal, OwnedEvent};
use tellus::{
    AppendError, EncodedEvent, EncodedSnapshot, EventStore, PersistenceId, SchemaVersion, SeqNo,
    SnapshotStore, StoredEvent, StoredSnapshot,
};

/// The journal's kinds of our events.
const EVENT: u16 = 0x7e01;
const SNAPSHOT: u16 = 0x7e02;

/// An [`EventStore`] and [`SnapshotStore`] of `tellus` on a journal. Cheap to clone; clones share the journal.
#[derive(Clone)]
pub struct JournalStore {
    streams: Streams,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal says no.
    #[error(transparent)]
    Journal(#[from] Error),
    /// A record in the journal is not what this store writes.
    #[error("event at position {position} was not written by this store: {what}")]
    Foreign {
        /// Where it stands.
        position: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A manifest too long to store.
    #[error("manifest of {len} bytes: at most 65,535 are stored")]
    ManifestTooLong {
        /// Its length.
        len: usize,
    },
}

impl JournalStore {
    /// A store on this journal.
    pub fn new(journal: Arc<Journal>) -> JournalStore {
        JournalStore {
            streams: Streams::new(journal),
        }
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        self.streams.journal()
    }
}

fn stream(id: &PersistenceId) -> EntityId {
    EntityId::named(&format!("tellus {id}"))
}

/// Length and bytes of the manifest, then whatever follows it.
fn encode(kind: u16, manifest: &str, version: SchemaVersion, payload: &[u8]) -> Result<NewEvent, StoreError> {
    let len = manifest.len();
    let len = u16::try_from(len).map_err(|_| StoreError::ManifestTooLong { len })?;
    Ok(NewEvent {
        kind,
        schema_version: version.as_u16(),
        payload: [&len.to_le_bytes()[..], manifest.as_bytes(), payload].concat(),
        tags: Vec::new(),
    })
}

/// An event or a snapshot, as the journal has it.
struct Record<'e> {
    position: u64,
    kind: u16,
    schema_version: u16,
    payload: &'e [u8],
}

impl<'e> From<&'e OwnedEvent> for Record<'e> {
    fn from(event: &'e OwnedEvent) -> Record<'e> {
        Record {
            position: event.position,
            kind: event.kind,
            schema_version: event.schema_version,
            payload: &event.payload,
        }
    }
}

impl<'e> From<&'e KeptSnapshot> for Record<'e> {
    fn from(snapshot: &'e KeptSnapshot) -> Record<'e> {
        Record {
            position: snapshot.position,
            kind: snapshot.kind,
            schema_version: snapshot.schema_version,
            payload: &snapshot.payload,
        }
    }
}

struct Decoded<'e> {
    manifest: Cow<'static, str>,
    version: SchemaVersion,
    rest: &'e [u8],
}

fn decode(record: Record<'_>, kind: u16) -> Result<Decoded<'_>, StoreError> {
    let foreign = |what| StoreError::Foreign {
        position: record.position,
        what,
    };
    if record.kind != kind {
        return Err(foreign("its kind is another"));
    }
    let (len, rest) = record
        .payload
        .split_first_chunk()
        .ok_or(foreign("it has no manifest"))?;
    let (manifest, rest) = rest
        .split_at_checked(usize::from(u16::from_le_bytes(*len)))
        .ok_or(foreign("it ends within its manifest"))?;
    let manifest = std::str::from_utf8(manifest).map_err(|_| foreign("its manifest is not UTF-8"))?;
    Ok(Decoded {
        manifest: Cow::Owned(manifest.to_owned()),
        version: SchemaVersion::new(record.schema_version),
        rest,
    })
}

impl EventStore for JournalStore {
    type Error = StoreError;

    async fn append(
        &self,
        id: &PersistenceId,
        next_seq_no: SeqNo,
        events: Vec<EncodedEvent>,
    ) -> Result<(), AppendError<StoreError>> {
        let events: Result<Vec<NewEvent>, StoreError> = events
            .iter()
            .map(|event| encode(EVENT, &event.manifest, event.schema_version, &event.payload))
            .collect();
        match self
            .streams
            .append(stream(id), next_seq_no.as_u64(), events?)
            .await
        {
            Ok(()) => Ok(()),
            Err(Error::WrongSequence { .. }) => Err(AppendError::Conflict),
            Err(error) => Err(AppendError::Store(error.into())),
        }
    }

    async fn read(
        &self,
        id: &PersistenceId,
        from_seq_no: SeqNo,
        limit: NonZeroUsize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let from = from_seq_no.as_u64();
        let events = self.streams.read(stream(id), from, limit.get()).await?;
        events
            .iter()
            .map(|event| {
                let decoded = decode(Record::from(event), EVENT)?;
                Ok(StoredEvent {
                    // The journal counts from 1.
                    seq_no: SeqNo::new(event.sequence - 1),
                    event: EncodedEvent {
                        manifest: decoded.manifest,
                        schema_version: decoded.version,
                        payload: decoded.rest.to_vec(),
                    },
                })
            })
            .collect()
    }
}

impl SnapshotStore for JournalStore {
    type Error = StoreError;

    async fn save(
        &self,
        id: &PersistenceId,
        next_seq_no: SeqNo,
        snapshot: EncodedSnapshot,
    ) -> Result<(), StoreError> {
        let next = next_seq_no.as_u64();
        let kept = encode(
            SNAPSHOT,
            &snapshot.manifest,
            snapshot.schema_version,
            &snapshot.payload,
        )?;
        Ok(self.streams.save_snapshot(stream(id), next, kept).await?)
    }

    async fn load(&self, id: &PersistenceId) -> Result<Option<StoredSnapshot>, StoreError> {
        let Some(kept) = self.streams.snapshot(stream(id)).await? else {
            return Ok(None);
        };
        let decoded = decode(Record::from(&kept), SNAPSHOT)?;
        Ok(Some(StoredSnapshot {
            next_seq_no: SeqNo::new(kept.length),
            snapshot: EncodedSnapshot {
                manifest: decoded.manifest,
                schema_version: decoded.version,
                payload: decoded.rest.to_vec(),
            },
        }))
    }
}

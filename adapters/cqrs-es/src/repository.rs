//! The repository: what `cqrs-es` asks of a store, asked of a journal.

use std::num::NonZeroUsize;
use std::sync::Arc;

use cqrs_es::persist::{
    PersistedEventRepository, PersistedEventStore, PersistenceError, ReplayStream, SerializedEvent,
    SerializedSnapshot,
};
use cqrs_es::{Aggregate, DomainEvent};
use event_streams::Streams;
use pmem_journal::{Error, Journal, Selection};
use serde_json::Value;

use crate::stored;

/// Events that a replay reads ahead of its consumer.
const AHEAD: usize = 256;

/// Events and snapshots of aggregates in a journal. Cheap to clone; clones share the journal.
#[derive(Clone)]
pub struct JournalRepository {
    streams: Streams,
    /// Snapshots are of every so manyeth event; `None`: of the last one committed with them.
    every: Option<NonZeroUsize>,
}

impl JournalRepository {
    /// A repository on this journal. Use [`JournalRepository::event_store`] and its like unless you build the store of
    /// `cqrs-es` yourself.
    pub fn new(journal: Arc<Journal>) -> JournalRepository {
        JournalRepository {
            streams: Streams::new(journal),
            every: None,
        }
    }

    /// For a store with snapshots of every `every`th event, as [`PersistedEventStore::new_snapshot_store`] makes one: the
    /// number has to be the same. `cqrs-es` does not tell a repository which event a snapshot is of.
    #[must_use]
    pub fn snapshots_every(self, every: NonZeroUsize) -> JournalRepository {
        JournalRepository {
            every: Some(every),
            ..self
        }
    }

    /// A store in which the events alone are the truth.
    pub fn event_store<A: Aggregate>(self) -> PersistedEventStore<JournalRepository, A> {
        PersistedEventStore::new_event_store(self)
    }

    /// A store with a snapshot of each aggregate at every `every`th of its events.
    pub fn snapshot_store<A: Aggregate>(
        self,
        every: NonZeroUsize,
    ) -> PersistedEventStore<JournalRepository, A> {
        PersistedEventStore::new_snapshot_store(self.snapshots_every(every), every.get())
    }

    /// A store in which the state saved with the last event is the truth.
    pub fn aggregate_store<A: Aggregate>(self) -> PersistedEventStore<JournalRepository, A> {
        PersistedEventStore::new_aggregate_store(self)
    }

    async fn read<A: Aggregate>(
        &self,
        aggregate_id: &str,
        from: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        let stream = stored::stream(A::TYPE, aggregate_id);
        let events = self.streams.read(stream, from as u64, usize::MAX).await;
        events.map_err(failed)?.iter().map(stored::read_event).collect()
    }

    /// The state of an aggregate after its event of this number, from the last snapshot and the events after it; `None` where one
    /// of those needs an upcaster, which a repository does not know.
    async fn state_after<A: Aggregate>(
        &self,
        aggregate_id: &str,
        number: usize,
    ) -> Result<Option<Value>, PersistenceError> {
        let (mut aggregate, from) = match self.get_snapshot::<A>(aggregate_id).await? {
            Some(snapshot) => (
                serde_json::from_value(snapshot.aggregate)?,
                snapshot.current_sequence,
            ),
            None => (A::default(), 0),
        };
        let events = self.read::<A>(aggregate_id, from).await?;
        for event in events.into_iter().filter(|event| event.sequence <= number) {
            match serde_json::from_value::<A::Event>(event.payload) {
                Ok(known) if known.event_version() == event.event_version => aggregate.apply(known),
                _ => return Ok(None),
            }
        }
        Ok(Some(serde_json::to_value(aggregate)?))
    }

    /// Feeds a stream with the selected events, from a thread that may wait for the disk and for the consumer.
    fn feed(&self, selection: Selection) -> ReplayStream {
        let (mut feed, stream) = ReplayStream::new(AHEAD);
        let journal = self.streams.journal().clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut push = |event| runtime.block_on(feed.push(event));
            let mut selected = match journal.reader().select(selection, None) {
                Ok(selected) => selected,
                Err(error) => return push(Err(failed(error))),
            };
            loop {
                match selected.next_event() {
                    // An error of pushing: a consumer that is gone wants no more.
                    Ok(Some(event)) => push(stored::read_event(&event.to_owned()))?,
                    Ok(None) => return Ok(()),
                    Err(error) => return push(Err(failed(error))),
                }
            }
        });
        stream
    }
}

fn failed(error: Error) -> PersistenceError {
    match error {
        Error::WrongSequence { .. } => PersistenceError::OptimisticLockError,
        error => PersistenceError::ConnectionError(Box::new(error)),
    }
}

impl PersistedEventRepository for JournalRepository {
    async fn get_events<A: Aggregate>(
        &self,
        aggregate_id: &str,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        self.read::<A>(aggregate_id, 0).await
    }

    async fn get_last_events<A: Aggregate>(
        &self,
        aggregate_id: &str,
        last_sequence: usize,
    ) -> Result<Vec<SerializedEvent>, PersistenceError> {
        self.read::<A>(aggregate_id, last_sequence).await
    }

    async fn get_snapshot<A: Aggregate>(
        &self,
        aggregate_id: &str,
    ) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        let stream = stored::stream(A::TYPE, aggregate_id);
        let found = self.streams.snapshot(stream).await.map_err(failed)?;
        found.as_ref().map(stored::read_snapshot).transpose()
    }

    /// Appends the events in one batch, then the snapshot: should the program die in between, the snapshot before it and
    /// the events say the same.
    async fn persist<A: Aggregate>(
        &self,
        events: &[SerializedEvent],
        snapshot_update: Option<(String, Value, usize)>,
    ) -> Result<(), PersistenceError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Ok(());
        };
        let stream = stored::stream(A::TYPE, &first.aggregate_id);
        let before = (first.sequence as u64).saturating_sub(1);
        let batch: Result<Vec<_>, _> = events.iter().map(stored::event).collect();
        self.streams
            .append(stream, before, batch?)
            .await
            .map_err(failed)?;
        let Some((aggregate_id, given, number)) = snapshot_update else {
            return Ok(());
        };
        let sequence = match self.every {
            Some(every) => last.sequence - last.sequence % every.get(),
            None => last.sequence,
        };
        // Not the state that came along: `cqrs-es` has applied these events to it twice, in `EventSink::write` and again for the
        // snapshot.
        let aggregate = match (self.state_after::<A>(&aggregate_id, sequence).await?, self.every) {
            (Some(state), _) => state,
            // The events say it all.
            (None, Some(_)) => return Ok(()),
            (None, None) => given,
        };
        let snapshot = stored::snapshot(A::TYPE, aggregate_id, aggregate, sequence, number)?;
        self.streams
            .save_snapshot(stream, sequence as u64, snapshot)
            .await
            .map_err(failed)
    }

    async fn stream_events<A: Aggregate>(
        &self,
        aggregate_id: &str,
    ) -> Result<ReplayStream, PersistenceError> {
        Ok(self.feed(Selection::Entity(stored::stream(A::TYPE, aggregate_id))))
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        Ok(self.feed(Selection::Tag(stored::tag(A::TYPE))))
    }
}

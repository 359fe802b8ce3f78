//! Named event streams on a [`Journal`], for async programs: append at an expected place, read from a place on, keep the
//! latest snapshot of each. What the adapters of event-sourcing frameworks share.
//!
//! In memory: for each stream that was read since the start, eight bytes for each of its events.
//!
//! A call that waits for a disk is made on one of tokio's blocking threads; where an append is a store and a fence
//! ([`Mode::Pmem`], [`Mode::Eadr`]) it is made on the spot, because a change of thread takes longer.

mod places;
mod snapshots;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmem_journal::{Appended, EntityId, Error, Event, Expected, Journal, Mode, OwnedEvent, Result, Snapshot};

use places::Places;
pub use snapshots::KeptSnapshot;

/// Snapshots kept of each stream: a damaged one leaves the one before it.
const SNAPSHOTS_KEPT: usize = 2;

/// An event to append: kind, schema version, payload and tags are the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// The application's number for this type of event.
    pub kind: u16,
    /// Version of the payload's schema.
    pub schema_version: u16,
    /// The event itself.
    pub payload: Vec<u8>,
    /// Labels to read by; each at most 255 bytes.
    pub tags: Vec<String>,
}

/// The streams of a journal. Cheap to clone; clones share the journal and what is known of it.
#[derive(Clone)]
pub struct Streams {
    journal: Arc<Journal>,
    places: Arc<Mutex<Places>>,
    /// An append takes less time than a change of thread.
    at_once: bool,
}

impl Streams {
    /// The streams of this journal. Others may go on appending to it.
    pub fn new(journal: Arc<Journal>) -> Streams {
        Streams {
            at_once: matches!(journal.mode().mode, Mode::Pmem | Mode::Eadr),
            places: Arc::new(Mutex::new(Places::new(&journal))),
            journal,
        }
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Appends events to a stream, all or none, if it has exactly `length` events now; durable before this returns.
    ///
    /// # Errors
    /// [`Error::WrongSequence`] when the stream has another length; nothing was appended then.
    pub async fn append(&self, stream: EntityId, length: u64, events: Vec<NewEvent>) -> Result<()> {
        self.run(move |streams| {
            if events.is_empty() {
                let actual = streams.journal.sequence(stream)?;
                return match actual == length {
                    true => Ok(()),
                    false => Err(Error::WrongSequence {
                        entity: stream,
                        expected: length,
                        actual,
                    }),
                };
            }
            streams
                .append_now(stream, Expected::Exact(length), &events)
                .map(drop)
        })
        .await
    }

    /// The events of a stream from its event number `from` on (the first is 0), at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::BelowFirst`], with numbers of this stream, when the journal has dropped some of them; otherwise what
    /// reading the journal can fail with.
    pub async fn read(&self, stream: EntityId, from: u64, limit: usize) -> Result<Vec<OwnedEvent>> {
        self.run(move |streams| {
            streams.read_known(stream, |known| {
                let places = known.of(stream, from, limit);
                places.map_err(|first| Error::BelowFirst { asked: from, first })
            })
        })
        .await
    }

    /// Keeps a snapshot of a stream after its first `length` events: it is what [`Streams::snapshot`] finds from now on.
    /// Durable before this returns. Where the journal has that many events of the stream, it is the journal's own snapshot
    /// of them, so that [`Journal::retain`] may count on it; otherwise it is an event of its own.
    ///
    /// # Errors
    /// What saving a snapshot or appending to the journal can fail with.
    pub async fn save_snapshot(&self, stream: EntityId, length: u64, snapshot: NewEvent) -> Result<()> {
        self.run(move |streams| {
            let last = length.checked_sub(1);
            let place = match last {
                Some(last) => streams.look_up(stream)?.of(stream, last, 1).unwrap_or_default(),
                None => Vec::new(),
            };
            let Some(&position) = place.first() else {
                let alone = snapshots::as_event(length, snapshot);
                let kept = streams.append_now(snapshots_of(stream), Expected::Any, &[alone]);
                return kept.map(drop);
            };
            let version = snapshot.schema_version;
            let kept = Snapshot::new(stream, length, position, snapshots::payload(&snapshot));
            streams
                .journal
                .save_snapshots(&[kept.schema(version)], SNAPSHOTS_KEPT)
        })
        .await
    }

    /// The snapshot of a stream that is of the most events. One that the journal finds damaged is passed over for the one
    /// before it.
    ///
    /// # Errors
    /// What reading the journal can fail with.
    pub async fn snapshot(&self, stream: EntityId) -> Result<Option<KeptSnapshot>> {
        self.run(move |streams| {
            let own = streams.journal.snapshot(stream)?.snapshot;
            let own = own.and_then(snapshots::of_journal);
            let apart = snapshots_of(stream);
            let last = |known: &Places| Ok(known.last(apart).into_iter().collect());
            let event = streams.read_known(apart, last)?.pop();
            let event = event.and_then(snapshots::of_event);
            Ok(match (own, event) {
                (Some(own), Some(event)) if event.length > own.length => Some(event),
                (own, event) => own.or(event),
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Streams) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.at_once {
            return work(self);
        }
        let streams = self.clone();
        match tokio::task::spawn_blocking(move || work(&streams)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down: whoever waits is going, too.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn append_now(&self, stream: EntityId, expected: Expected, events: &[NewEvent]) -> Result<Appended> {
        let tags: Vec<Vec<&str>> = events
            .iter()
            .map(|event| event.tags.iter().map(String::as_str).collect())
            .collect();
        let batch: Vec<Event<'_>> = events
            .iter()
            .zip(&tags)
            .map(|(event, tags)| {
                Event::new(stream, event.kind, &event.payload)
                    .schema(event.schema_version)
                    .tags(tags)
            })
            .collect();
        let appended = self.journal.append(&batch, expected)?;
        self.lock().note(stream, &appended);
        Ok(appended)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, stream: EntityId) -> Result<MutexGuard<'_, Places>> {
        let mut places = self.lock();
        places.look_up(&self.journal, stream)?;
        Ok(places)
    }

    /// Reads the events of a stream at places that are chosen from those known of it.
    fn read_known(
        &self,
        stream: EntityId,
        choose: impl Fn(&Places) -> Result<Vec<u64>>,
    ) -> Result<Vec<OwnedEvent>> {
        let places = || choose(&*self.look_up(stream)?);
        match self.read_at(stream, &places()?) {
            // The journal has dropped some of them since they became known.
            Err(Error::BelowFirst { .. }) => {
                self.lock().forget(stream);
                self.read_at(stream, &places()?)
            }
            read => read,
        }
    }

    /// Reads the events of a stream at these places.
    fn read_at(&self, stream: EntityId, places: &[u64]) -> Result<Vec<OwnedEvent>> {
        let Some(&first) = places.first() else {
            return Ok(Vec::new());
        };
        let mut events = Vec::with_capacity(places.len());
        let mut replay = self.journal.replay(first)?;
        for &place in places {
            replay.skip_to(place)?;
            // Compaction may have taken out the event before, and this one was read in its stead.
            if replay.position() > place {
                continue;
            }
            let event = replay.next_event()?;
            let event =
                event.filter(|event| event.entity == stream && places.binary_search(&event.position).is_ok());
            events.extend(event.map(|event| event.to_owned()));
        }
        Ok(events)
    }
}

/// The entity of a stream's snapshots that are events: another one, so that the stream's own numbers have no gaps.
fn snapshots_of(stream: EntityId) -> EntityId {
    EntityId::named(&format!("snapshots of {stream}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: &str) -> NewEvent {
        NewEvent {
            kind: 7,
            schema_version: 3,
            payload: payload.into(),
            tags: vec!["colour".into()],
        }
    }

    fn payloads(events: &[OwnedEvent]) -> Vec<&str> {
        events
            .iter()
            .map(|event| std::str::from_utf8(&event.payload).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn events_and_snapshots_are_there_again_after_a_reopen_and_beside_what_others_append() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (EntityId::named("a"), EntityId::named("b"));
        {
            let (journal, _) = Journal::open(dir.path()).unwrap();
            let streams = Streams::new(Arc::new(journal));
            streams
                .append(a, 0, vec![event("a0"), event("a1")])
                .await
                .unwrap();
            streams.append(b, 0, vec![event("b0")]).await.unwrap();
            streams.save_snapshot(a, 1, event("old")).await.unwrap();
            streams.save_snapshot(a, 2, event("new")).await.unwrap();
            let own = streams.journal().snapshot(a).unwrap().snapshot.unwrap();
            assert_eq!((own.sequence, own.schema_version), (2, 3), "the journal knows it");
            // Somebody else, with the same journal.
            streams
                .journal()
                .append(&[Event::new(a, 1, b"a2")], Expected::Exact(2))
                .unwrap();
            streams.append(a, 3, vec![event("a3")]).await.unwrap();
            let all = streams.read(a, 0, 100).await.unwrap();
            assert_eq!(payloads(&all), ["a0", "a1", "a2", "a3"]);
            assert_eq!((all[0].kind, all[0].schema_version), (7, 3));
            assert_eq!(all[0].tags, ["colour"]);
        }
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let streams = Streams::new(Arc::new(journal));
        assert_eq!(payloads(&streams.read(a, 1, 2).await.unwrap()), ["a1", "a2"]);
        assert_eq!(payloads(&streams.read(a, 4, 2).await.unwrap()), [""; 0]);
        let snapshot = streams.snapshot(a).await.unwrap().unwrap();
        assert_eq!((snapshot.length, &snapshot.payload[..]), (2, &b"new"[..]));
        assert_eq!((snapshot.kind, snapshot.schema_version), (7, 3));
        assert!(streams.snapshot(b).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn of_snapshots_the_one_of_the_most_events_counts_with_events_in_the_journal_or_without() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let streams = Streams::new(Arc::new(journal));
        let a = EntityId::named("a");
        let found = async || {
            let found = streams.snapshot(a).await.unwrap().unwrap();
            (found.length, String::from_utf8(found.payload).unwrap())
        };
        streams.save_snapshot(a, 0, event("empty")).await.unwrap();
        assert_eq!(found().await, (0, "empty".into()));
        streams.append(a, 0, vec![event("a0")]).await.unwrap();
        streams.save_snapshot(a, 1, event("one")).await.unwrap();
        assert_eq!(found().await, (1, "one".into()));
        streams.save_snapshot(a, 3, event("ahead")).await.unwrap();
        assert_eq!(found().await, (3, "ahead".into()));
        let more = vec![event("a1"), event("a2"), event("a3")];
        streams.append(a, 1, more).await.unwrap();
        streams.save_snapshot(a, 4, event("four")).await.unwrap();
        assert_eq!(found().await, (4, "four".into()));
    }

    #[tokio::test]
    async fn an_append_elsewhere_than_at_the_end_is_refused_and_so_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        let streams = Streams::new(Arc::new(journal));
        let a = EntityId::named("a");
        streams.append(a, 0, vec![event("a0")]).await.unwrap();
        for (length, events) in [(0, vec![event("x")]), (2, vec![event("x")]), (2, vec![])] {
            let refused = streams.append(a, length, events).await;
            assert!(
                matches!(refused, Err(Error::WrongSequence { actual: 1, .. })),
                "{refused:?}"
            );
        }
        streams.append(a, 1, vec![]).await.unwrap();
        assert_eq!(payloads(&streams.read(a, 0, 9).await.unwrap()), ["a0"]);
    }

    fn in_small_segments(dir: &std::path::Path) -> Streams {
        let options = pmem_journal::Options::new().segment_size(64 << 10);
        Streams::new(Arc::new(Journal::open_with(dir, &options).unwrap().0))
    }

    #[tokio::test]
    async fn of_events_that_lie_far_apart_those_that_compaction_left_are_read_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let streams = in_small_segments(dir.path());
        let (a, b) = (EntityId::named("a"), EntityId::named("b"));
        let others = vec![event("between"); 200];
        for number in 0..20u64 {
            let own = event(&format!("a{number}"));
            streams.append(a, number, vec![own]).await.unwrap();
            streams.append(b, 200 * number, others.clone()).await.unwrap();
        }
        let all: Vec<String> = (0..20).map(|number| format!("a{number}")).collect();
        let read = async || streams.read(a, 0, 100).await.unwrap();
        assert_eq!(payloads(&read().await), all);
        let compaction = pmem_journal::Compaction::new().newest_only();
        let compacted = streams.journal().compact(&compaction).unwrap();
        assert!(compacted.events > 1000, "{compacted:?}");
        let left = read().await;
        assert!((1..20).contains(&left.len()), "{}", left.len());
        assert_eq!(payloads(&left), all[20 - left.len()..]);
    }

    #[tokio::test]
    async fn where_compaction_left_gaps_events_keep_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let streams = in_small_segments(dir.path());
        let (a, b) = (EntityId::named("a"), EntityId::named("b"));
        for number in 0..6u64 {
            let own = event(&number.to_string());
            streams.append(a, number, vec![own]).await.unwrap();
            for batch in 0..40 {
                // Of those that are alone in their entities none may go, and their segment stays as it is.
                let alone = |n| EntityId(u128::from(number) << 64 | batch << 32 | n);
                let others: Vec<_> = (1..36)
                    .map(|n| if number % 2 == 0 { alone(n) } else { b })
                    .map(|entity| Event::new(entity, 1, b"between"))
                    .collect();
                streams.journal().append(&others, Expected::Any).unwrap();
            }
        }
        let compaction = pmem_journal::Compaction::new().newest_only();
        assert!(streams.journal().compact(&compaction).unwrap().events > 1000);
        drop(streams);
        let streams = in_small_segments(dir.path());
        let numbers = |events: &[OwnedEvent]| -> Vec<u64> { events.iter().map(|e| e.sequence - 1).collect() };
        let left = numbers(&streams.read(a, 0, 100).await.unwrap());
        assert!(left.windows(2).any(|pair| pair[1] > pair[0] + 1), "{left:?}");
        assert_eq!(left[0], 0, "{left:?}");
        for from in 0..8 {
            let found = streams.read(a, from, 2).await.unwrap();
            let wanted: Vec<_> = left.iter().copied().filter(|n| *n >= from).take(2).collect();
            assert_eq!(numbers(&found), wanted, "from {from}");
        }
    }

    #[tokio::test]
    async fn what_the_journal_has_dropped_since_it_was_known_is_refused_by_its_number_in_the_stream() {
        let dir = tempfile::tempdir().unwrap();
        let streams = in_small_segments(dir.path());
        let idle = Streams::new(Arc::clone(streams.journal()));
        let a = EntityId::named("a");
        let others = vec![event("between"); 200];
        for number in 0..20u64 {
            streams.append(a, number, vec![event("own")]).await.unwrap();
            streams
                .append(EntityId::named("b"), 200 * number, others.clone())
                .await
                .unwrap();
        }
        assert_eq!(streams.read(a, 0, 100).await.unwrap().len(), 20);
        let dropped = streams.journal().drop_segments_below(2000).unwrap();
        assert!(dropped > 0);
        for streams in [&streams, &idle] {
            let refused = streams.read(a, 0, 100).await;
            let Err(Error::BelowFirst { asked: 0, first }) = refused else {
                panic!("{refused:?}");
            };
            assert!((1..20).contains(&first), "{first}");
            let left = streams.read(a, first, 100).await.unwrap();
            assert_eq!(left.len() as u64, 20 - first);
        }
    }
}

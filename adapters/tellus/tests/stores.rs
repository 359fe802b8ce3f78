//! The contract that `tellus` ships for stores, kept by the journal.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use pmem_journal::{EntityId, Event, Expected, Journal};
use tellus::{
    EncodedEvent, EncodedSnapshot, EventStore, PersistenceId, SchemaVersion, SeqNo, SnapshotStore,
    persistence_tests,
};
use tellus_transport::{JournalStore, StoreError};

fn open(dir: &Path) -> JournalStore {
    JournalStore::new(Arc::new(Journal::open(dir).unwrap().0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_event_store_keeps_its_contract() {
    let dir = tempfile::tempdir().unwrap();
    persistence_tests::event_store_contract(open(dir.path())).await;
}

fn deposited() -> EncodedEvent {
    EncodedEvent {
        manifest: "deposited".into(),
        schema_version: SchemaVersion::new(3),
        payload: b"100".to_vec(),
    }
}

#[tokio::test]
async fn the_snapshot_store_keeps_its_contract() {
    let dir = tempfile::tempdir().unwrap();
    persistence_tests::snapshot_store_contract(open(dir.path())).await;
}

#[tokio::test]
async fn a_snapshot_and_the_events_after_it_fit_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    persistence_tests::snapshot_with_event_tail(store.clone(), store).await;
}

#[tokio::test]
async fn a_snapshot_of_events_in_the_journal_is_one_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let id = PersistenceId::new("account", "17").unwrap();
    let event = deposited();
    let snapshot = EncodedSnapshot {
        manifest: "balance".into(),
        schema_version: SchemaVersion::new(2),
        payload: b"300".to_vec(),
    };
    {
        let store = open(dir.path());
        store
            .append(&id, SeqNo::ZERO, vec![event.clone(), event.clone(), event])
            .await
            .unwrap();
        store.save(&id, SeqNo::new(3), snapshot.clone()).await.unwrap();
    }
    let store = open(dir.path());
    let stream = EntityId::named("tellus account/17");
    let kept = store.journal().snapshot(stream).unwrap().snapshot.unwrap();
    assert_eq!((kept.sequence, kept.position, kept.schema_version), (3, 2, 2));
    let loaded = store.load(&id).await.unwrap().unwrap();
    assert_eq!((loaded.next_seq_no, loaded.snapshot), (SeqNo::new(3), snapshot));
}

#[tokio::test]
async fn events_are_there_after_a_reopen_and_one_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let id = PersistenceId::new("account", "17").unwrap();
    let event = deposited();
    open(dir.path())
        .append(&id, SeqNo::ZERO, vec![event.clone()])
        .await
        .unwrap();
    let store = open(dir.path());
    let some = NonZeroUsize::new(10).unwrap();
    let read = store.read(&id, SeqNo::ZERO, some).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].seq_no, &read[0].event), (SeqNo::ZERO, &event));
    let stream = EntityId::named("tellus account/17");
    let foreign = Event::new(stream, 1, b"no manifest");
    store.journal().append(&[foreign], Expected::Exact(1)).unwrap();
    let refused = store.read(&id, SeqNo::ZERO, some).await;
    assert!(
        matches!(refused, Err(StoreError::Foreign { position: 1, .. })),
        "{refused:?}"
    );
}

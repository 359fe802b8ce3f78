//! The repository against what `cqrs-es` promises: the guide's bank account, snapshots, upcasters, replays, conflicts, and
//! a process that is killed.

#[path = "../examples/bank/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the example")]
mod bank;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bank::{BankAccount, BankAccountCommand, BankAccountEvent, BankAccountServices, Ledger, walk_through};
use cqrs_es::event_sink::EventSink;
use cqrs_es::mem_store::MemStore;
use cqrs_es::persist::{
    PersistedEventRepository, PersistedEventStore, QueryReplay, SemanticVersionEventUpcaster, SerializedEvent,
};
use cqrs_es::{Aggregate, AggregateContext, AggregateError, CqrsFramework, DomainEvent, EventStore};
use pmem_es::JournalRepository;
use pmem_journal::Journal;
use serde_json::{Value, json};
use tests::process::{OtherProcess, Role};

fn open(dir: &Path) -> JournalRepository {
    let (journal, _) = Journal::open(dir).unwrap();
    JournalRepository::new(Arc::new(journal))
}

async fn balance<S: EventStore<BankAccount>>(store: &S, account: &str) -> i64 {
    store.load_aggregate(account).await.unwrap().aggregate().balance
}

const EVERY: NonZeroUsize = NonZeroUsize::new(3).unwrap();

#[tokio::test]
async fn the_guide_s_bank_account_runs_as_it_does_in_memory_and_is_there_after_a_reopen() {
    let expected = walk_through(MemStore::<BankAccount>::default(), "17").await;
    assert_eq!(expected.len(), 4);
    let dir = tempfile::tempdir().unwrap();
    {
        let repository = open(dir.path());
        assert_eq!(
            walk_through(repository.clone().event_store(), "17").await,
            expected
        );
        for (account, seen) in [
            (
                "18",
                walk_through(repository.clone().snapshot_store(EVERY), "18").await,
            ),
            (
                "19",
                walk_through(repository.clone().aggregate_store(), "19").await,
            ),
        ] {
            let events = seen.iter().map(|(_, sequence, event)| (sequence, event));
            let as_expected = expected.iter().map(|(_, sequence, event)| (sequence, event));
            assert_eq!(
                events.skip(1).collect::<Vec<_>>(),
                as_expected.skip(1).collect::<Vec<_>>(),
                "{account}"
            );
        }
    }
    let repository = open(dir.path());
    assert_eq!(balance(&repository.clone().event_store(), "17").await, 54_319);
    assert_eq!(
        balance(&repository.clone().snapshot_store(EVERY), "18").await,
        54_319
    );
    assert_eq!(balance(&repository.aggregate_store(), "19").await, 54_319);
}

#[tokio::test]
async fn a_snapshot_is_of_the_event_it_says_and_the_events_after_it_are_applied_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let repository = open(dir.path());
    walk_through(repository.clone().snapshot_store(EVERY), "17").await;
    let snapshot = repository
        .get_snapshot::<BankAccount>("17")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((snapshot.current_sequence, snapshot.current_snapshot), (3, 1));
    assert_eq!(snapshot.aggregate["balance"], 80_000);
    let after = repository.get_last_events::<BankAccount>("17", 3).await.unwrap();
    assert_eq!(after.iter().map(|event| event.sequence).collect::<Vec<_>>(), [4]);
    // A command of several events that goes past the third: the snapshot is of the sixth, not of the last.
    let store = repository.clone().snapshot_store::<BankAccount>(EVERY);
    let context = store.load_aggregate("17").await.unwrap();
    let deposits = (1..=4).map(|at| BankAccountEvent::CustomerDepositedMoney {
        amount: 1,
        balance: 54_319 + at,
    });
    store
        .commit(deposits.collect(), context, Default::default())
        .await
        .unwrap();
    let snapshot = repository
        .get_snapshot::<BankAccount>("17")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((snapshot.current_sequence, snapshot.current_snapshot), (6, 2));
    assert_eq!(balance(&store, "17").await, 54_323);
    assert!(
        repository
            .get_snapshot::<BankAccount>("nobody")
            .await
            .unwrap()
            .is_none()
    );
}

/// An aggregate whose events are not absolute: applied twice, they count twice.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Tally {
    total: u64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Added(u64);

impl DomainEvent for Added {
    fn event_type(&self) -> String {
        "Added".to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Aggregate for Tally {
    const TYPE: &'static str = "tally";
    type Command = u64;
    type Event = Added;
    type Error = std::convert::Infallible;
    type Services = ();

    async fn handle(&mut self, more: u64, _: &(), sink: &EventSink<Tally>) -> Result<(), Self::Error> {
        sink.write(Added(more), self).await;
        Ok(())
    }

    fn apply(&mut self, Added(more): Added) {
        self.total += more;
    }
}

#[tokio::test]
async fn a_snapshot_counts_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let repository = open(dir.path());
    let snapshots = || repository.clone().snapshot_store::<Tally>(EVERY);
    let aggregates = || repository.clone().aggregate_store::<Tally>();
    let (by_snapshots, by_aggregates) = (
        CqrsFramework::new(snapshots(), vec![], ()),
        CqrsFramework::new(aggregates(), vec![], ()),
    );
    for _ in 0..10 {
        by_snapshots.execute("a", 1).await.unwrap();
        by_aggregates.execute("b", 1).await.unwrap();
    }
    assert!(repository.get_snapshot::<Tally>("a").await.unwrap().is_some());
    assert_eq!(
        snapshots().load_aggregate("a").await.unwrap().aggregate().total,
        10
    );
    assert_eq!(
        aggregates().load_aggregate("b").await.unwrap().aggregate().total,
        10
    );
}

#[tokio::test]
async fn of_two_commits_from_the_same_state_one_is_a_conflict_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let repository = open(dir.path());
    let store = repository.clone().event_store::<BankAccount>();
    let (one, other) = (
        store.load_aggregate("17").await.unwrap(),
        store.load_aggregate("17").await.unwrap(),
    );
    let deposit = |balance| BankAccountEvent::CustomerDepositedMoney { amount: 1, balance };
    store
        .commit(vec![deposit(1)], one, Default::default())
        .await
        .unwrap();
    let conflict = store
        .commit(vec![deposit(7), deposit(8)], other, Default::default())
        .await
        .unwrap_err();
    assert!(
        matches!(conflict, AggregateError::AggregateConflict),
        "{conflict}"
    );
    assert_eq!(repository.get_events::<BankAccount>("17").await.unwrap().len(), 1);
    assert_eq!(balance(&store, "17").await, 1);
}

#[tokio::test]
async fn old_events_are_read_in_their_newest_form_through_upcasters() {
    let dir = tempfile::tempdir().unwrap();
    let repository = open(dir.path());
    // As an older version of the program wrote it: whole units, without the balance.
    let old = SerializedEvent::new(
        "17".into(),
        1,
        "account".into(),
        "CustomerDepositedMoney".into(),
        "0.9".into(),
        json!({ "CustomerDepositedMoney": { "units": 12 } }),
        json!({ "teller": "3" }),
    );
    repository
        .persist::<BankAccount>(std::slice::from_ref(&old), None)
        .await
        .unwrap();
    assert_eq!(repository.get_events::<BankAccount>("17").await.unwrap(), [old]);
    let newest = |payload: Value| {
        let cents = payload["CustomerDepositedMoney"]["units"].as_i64().unwrap() * 100;
        json!({ "CustomerDepositedMoney": { "amount": cents, "balance": cents } })
    };
    let upcaster = SemanticVersionEventUpcaster::new("CustomerDepositedMoney", "1.0", Box::new(newest));
    let store = PersistedEventStore::<_, BankAccount>::new_event_store(repository)
        .with_upcasters(vec![Box::new(upcaster)]);
    assert_eq!(balance(&store, "17").await, 1_200);
}

#[tokio::test]
async fn queries_are_rebuilt_from_the_journal_for_one_account_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let repository = open(dir.path());
    let mut all = walk_through(repository.clone().event_store(), "17").await;
    all.extend(walk_through(repository.clone().event_store(), "18").await);
    let (every, one) = (Ledger::default(), Ledger::default());
    QueryReplay::new(repository.clone(), every.clone())
        .replay_all()
        .await
        .unwrap();
    assert_eq!(*every.0.lock().unwrap(), all);
    QueryReplay::new(repository, one.clone())
        .replay("18")
        .await
        .unwrap();
    assert_eq!(*one.0.lock().unwrap(), all[4..]);
}

/// The other process: pays in a cent at a time, and tells after each.
#[tokio::test]
async fn pay_in_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let store = open(Path::new(role.argument())).snapshot_store::<BankAccount>(EVERY);
    let cqrs = CqrsFramework::new(store, vec![], BankAccountServices);
    for deposit in 1.. {
        let amount = BankAccountCommand::DepositMoney { amount: 1 };
        cqrs.execute("17", amount).await.unwrap();
        role.tell(&deposit.to_string());
    }
}

#[tokio::test]
async fn what_was_answered_before_a_kill_is_there_for_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let argument = dir.path().to_str().unwrap();
    let mut total = 0;
    for round in 0..3 {
        let mut other = OtherProcess::start("pay_in_as_the_other_process", argument);
        let mut answered = 0;
        for _ in 0..20 {
            answered = other.told().parse().unwrap();
        }
        other.kill();
        let store = open(dir.path()).snapshot_store::<BankAccount>(EVERY);
        let found = balance(&store, "17").await;
        assert!(
            found >= total + answered,
            "round {round}: {found} of {}",
            total + answered
        );
        total = found;
    }
}

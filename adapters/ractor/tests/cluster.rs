//! Two processes, one `ractor` cluster: process groups, remote casts and calls, a peer that is killed, and one that is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t, cast};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use ractor_transport::KeptConnection;
use tests::over::Over;
use tests::process::{OtherProcess, Role};

/// How long is waited for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(RactorClusterMessage)]
enum CounterMessage {
    Add(u64),
    #[rpc]
    Total(RpcReplyPort<u64>),
}

struct Counter;

impl Actor for Counter {
    type Msg = CounterMessage;
    type State = u64;
    /// Which group to join. The tests of this binary share the groups of its process: each has one of its own.
    type Arguments = Over;

    async fn pre_start(
        &self,
        myself: ActorRef<CounterMessage>,
        over: Over,
    ) -> Result<u64, ActorProcessingErr> {
        ractor::pg::join(over.name().to_owned(), vec![myself.get_cell()]);
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<CounterMessage>,
        message: CounterMessage,
        total: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CounterMessage::Add(more) => *total += more,
            CounterMessage::Total(reply) => {
                let _ = reply.send(*total);
            }
        }
        Ok(())
    }
}

async fn node_server(name: &str) -> ActorRef<NodeServerMessage> {
    let server = NodeServer::new(0, "cookie".into(), name.into(), "localhost".into(), None, None)
        .with_listen_addr([127, 0, 0, 1].into());
    Actor::spawn(None, server, ()).await.unwrap().0
}

/// The other process: a counter in a group, reached over the transport alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn count_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let over = Over::of(role.argument());
    let server = node_server("other").await;
    Actor::spawn(None, Counter, over).await.unwrap();
    let node = over
        .builder("other")
        .listen(role.argument())
        .start_on_tokio()
        .unwrap();
    ractor_transport::accept(server, &node).unwrap();
    role.tell(&node.addresses()[0]);
    std::future::pending::<()>().await;
}

/// The counter of the other process, once it has joined its group here.
async fn remote_counter(over: Over) -> ActorRef<CounterMessage> {
    let start = Instant::now();
    loop {
        if let Some(cell) = ractor::pg::get_members(&over.name().to_owned())
            .into_iter()
            .find(|cell| !cell.get_id().is_local())
        {
            return cell.into();
        }
        assert!(start.elapsed() < PATIENCE, "no remote counter");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_killed_peer_is_noticed_and_one_that_is_back_is_reached_again(over: Over) {
    let mut other = OtherProcess::start("count_as_the_other_process", &over.free_address());
    let address = other.told();
    let server = node_server("here").await;
    let node = Arc::new(
        over.builder("here")
            .wait(transport::Wait::default())
            .start_on_tokio()
            .unwrap(),
    );
    let _kept = KeptConnection::start(server.clone(), node.clone(), vec![address.clone()]);
    for round in 0..2 {
        let counter = remote_counter(over).await;
        let mut expected = 0;
        for add in 1..=1_000u64 {
            cast!(counter, CounterMessage::Add(add)).unwrap();
            expected += add;
        }
        // A call goes behind the casts.
        let total = call_t!(counter, CounterMessage::Total, 30_000).unwrap();
        assert_eq!(total, expected, "round {round}");
        let killed = Instant::now();
        other.kill();
        let call = call_t!(counter, CounterMessage::Total, 30_000);
        assert!(call.is_err(), "answered by a process that was killed: {call:?}");
        while !ractor::pg::get_members(&over.name().to_owned()).is_empty() {
            assert!(killed.elapsed() < PATIENCE, "still a member");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!(
            "round {round}: left its group {:?} after the kill",
            killed.elapsed()
        );
        if round == 0 {
            other = OtherProcess::start("count_as_the_other_process", &address);
            assert_eq!(other.told(), address);
        }
    }
}

tests::over_each_transport! { async a_killed_peer_is_noticed_and_one_that_is_back_is_reached_again }

//! Calls between two processes: of all sizes, many at once, past their deadline, and to a server that is killed.

#[path = "../examples/counter/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the example")]
mod counter;

use std::time::{Duration, Instant};

use counter::Counter;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tarpc::client::{Config, RpcError};
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_util::codec::LengthDelimitedCodec;
use tests::over::{Over, TIMING};
use tests::process::{OtherProcess, Role};
use transport::{NodeBuilder, Timing};

/// How long is waited for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn within(patience: Duration) -> Context {
    let mut context = context::current();
    context.deadline = Instant::now() + patience;
    context
}

/// A client whose session is over is of no use any more, so a machine that holds a live process up for seconds must not make it
/// a dead one: a peer that is dead is noticed within 12 s.
fn builder(over: Over, name: &str) -> NodeBuilder {
    over.builder(name).timing(Timing {
        silence: Duration::from_secs(10),
        ..TIMING
    })
}

/// The other process: serves, and tells where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let over = Over::of(role.argument());
    let node = builder(over, "server")
        .listen(role.argument())
        .start_on_tokio()
        .unwrap();
    let serving = counter::serve(&node).unwrap();
    role.tell(&node.addresses()[0]);
    serving.await.unwrap();
}

async fn calls_and_a_killed_server(over: Over) {
    let mut other = OtherProcess::start("serve_as_the_other_process", &over.free_address());
    let node = builder(over, "client").start_on_tokio().unwrap();
    let peer = node.connect_async(&other.told()).await.unwrap();
    let client = counter::client(&peer).await.unwrap();
    for len in [0, 1, 1_000, 100_000, 300_000] {
        let bytes = vec![7; len];
        assert_eq!(client.echo(within(PATIENCE), bytes.clone()).await.unwrap(), bytes);
    }
    let adding = (0..200).map(|_| client.add(within(PATIENCE), 2));
    let mut counts: Vec<u64> = join_all(adding).await.into_iter().map(Result::unwrap).collect();
    counts.sort_unstable();
    assert!(
        counts.into_iter().eq((1..=200).map(|number| 2 * number)),
        "each once"
    );
    // Two clients share the session, and one does not see the other's end.
    let second = counter::client(&peer).await.unwrap();
    assert_eq!(second.add(within(PATIENCE), 0).await.unwrap(), 400);
    drop(second);
    let patience = Duration::from_millis(50);
    let late = client.never(within(patience)).await;
    assert!(matches!(late, Err(RpcError::DeadlineExceeded)), "{late:?}");
    assert_eq!(client.add(within(PATIENCE), 1).await.unwrap(), 401);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.never(within(10 * PATIENCE)).await }
    });
    other.kill();
    let killed = Instant::now();
    let error = asking.await.unwrap().unwrap_err();
    println!("{}: {error} after {:?}", over.name(), killed.elapsed());
    assert!(killed.elapsed() < PATIENCE, "{error}");
    assert!(client.add(within(PATIENCE), 1).await.is_err());
}

#[tokio::test]
async fn both_ends_say_how_long_a_message_may_be() {
    let node = Over::Tcp
        .builder("server")
        .listen("tcp://127.0.0.1:0")
        .start_on_tokio()
        .unwrap();
    let mut incoming = tarpc_transport::listen(&node, Bincode::default).unwrap();
    incoming.config_mut().max_frame_length(1_000);
    tokio::spawn(async move {
        while let Some(transport) = incoming.next().await {
            let requests =
                BaseChannel::with_defaults(transport.unwrap()).execute(counter::Count::default().serve());
            tokio::spawn(requests.for_each(|answer| async {
                tokio::spawn(answer);
            }));
        }
    });
    let here = Over::Tcp.builder("client").start_on_tokio().unwrap();
    let peer = here.connect_async(&node.addresses()[0]).await.unwrap();
    let mut config = LengthDelimitedCodec::builder();
    config.max_frame_length(1_000);
    let transport = tarpc_transport::connect_with(&peer, Bincode::default, &config)
        .await
        .unwrap();
    let client = counter::CounterClient::new(Config::default(), transport).spawn();
    assert!(client.echo(within(PATIENCE), vec![7; 800]).await.is_ok());
    // Refused at this end, and the connection goes on; then by the other end, which closes it.
    assert!(matches!(
        client.echo(within(PATIENCE), vec![7; 2_000]).await,
        Err(RpcError::Send(_))
    ));
    assert!(client.echo(within(PATIENCE), vec![7; 800]).await.is_ok());
    let unlimited = counter::client(&peer).await.unwrap();
    assert!(unlimited.echo(within(PATIENCE), vec![7; 2_000]).await.is_err());
}

tests::over_each_transport! { async calls_and_a_killed_server }

//! Two processes, one cluster: the first finds the second's actor in a process group and calls it, sees it go when that
//! process is killed, and calls the one that takes its place.
//!
//! `cargo run -p ractor-transport --example ractor_pair -- tcp://127.0.0.1:0` plays both; `shm://@pair` is memory that they share, and with
//! `--features verbs` there is `rdma://ADDRESS-OF-THE-DEVICE:0`, too.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use ractor_transport::KeptConnection;
use transport::{Node, NodeBuilder};
use transport_rdma::Shm;
use transport_tcp::Tcp;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(RactorClusterMessage)]
enum Greet {
    #[rpc]
    Hello(String, RpcReplyPort<String>),
}

struct Greeter;

impl Actor for Greeter {
    type Msg = Greet;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Greet>, (): ()) -> Result<(), ActorProcessingErr> {
        ractor::pg::join("greeters".to_owned(), vec![myself.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Greet>,
        Greet::Hello(name, reply): Greet,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let _ = reply.send(format!("hello {name}, from process {}", std::process::id()));
        Ok(())
    }
}

fn node(name: &str) -> Outcome<NodeBuilder> {
    let builder = Node::builder(name)
        .secret(b"shared by all nodes of the cluster")
        .transport(Tcp::new())
        .transport(Shm::new());
    #[cfg(feature = "verbs")]
    let builder = builder.transport(transport_rdma::Rdma::new(Default::default())?);
    Ok(builder)
}

async fn node_server(name: &str) -> Outcome<ActorRef<NodeServerMessage>> {
    let (name, host) = (name.to_owned(), "localhost".to_owned());
    let server = NodeServer::new(0, "cookie".to_owned(), name, host, None, None)
        .with_listen_addr([127, 0, 0, 1].into());
    Ok(Actor::spawn(None, server, ()).await?.0)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["greet", address] => greet(address).await,
        [address] => call(address).await,
        _ => Err("where? tcp://127.0.0.1:0, for one".into()),
    }
}

/// The process that is called.
async fn greet(address: &str) -> Outcome<()> {
    Actor::spawn(None, Greeter, ()).await?;
    let node = node("greeter")?.listen(address).start_on_tokio()?;
    ractor_transport::accept(node_server("greeter").await?, &node)?;
    println!("{}", node.addresses()[0]);
    std::future::pending().await
}

fn start_greeter(address: &str) -> Outcome<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["greet", address])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut listens = String::new();
    BufReader::new(child.stdout.take().ok_or("a pipe")?).read_line(&mut listens)?;
    Ok((child, listens.trim().to_owned()))
}

/// The process that calls.
async fn call(address: &str) -> Outcome<()> {
    let (mut child, address) = start_greeter(address)?;
    let node = Arc::new(node("caller")?.start_on_tokio()?);
    let _kept = KeptConnection::start(node_server("caller").await?, node, vec![address.clone()]);
    let greeters = || ractor::pg::get_members(&"greeters".to_owned());
    for last in [false, true] {
        while greeters().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let greeter: ActorRef<Greet> = greeters().remove(0).into();
        println!("{}", call_t!(greeter, Greet::Hello, 5_000, "you".to_owned())?);
        let killed = Instant::now();
        child.kill()?;
        child.wait()?;
        while !greeters().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("killed, and out of its group after {:?}", killed.elapsed());
        if !last {
            (child, _) = start_greeter(&address)?;
        }
    }
    Ok(())
}

//! Two processes: a server that is killed, and a client that notices.
//!
//! `cargo run -p tarpc-transport --example tarpc_pair -- tcp://127.0.0.1:0` plays both; `shm://@pair` is memory that they share, and with
//! `--features verbs` there is `rdma://ADDRESS-OF-THE-DEVICE:0`, too.

#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod counter;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tarpc::context;
use transport::{Node, NodeBuilder};
use transport_rdma::Shm;
use transport_tcp::Tcp;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn node(name: &str) -> Outcome<NodeBuilder> {
    let builder = Node::builder(name)
        .secret(b"shared by all nodes of the cluster")
        .transport(Tcp::new())
        .transport(Shm::new());
    #[cfg(feature = "verbs")]
    let builder = builder.transport(transport_rdma::Rdma::new(Default::default())?);
    Ok(builder)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        [address] => call(address).await,
        _ => Err("where? tcp://127.0.0.1:0, for one".into()),
    }
}

async fn serve(address: &str) -> Outcome<()> {
    let node = node("server")?.listen(address).start_on_tokio()?;
    let serving = counter::serve(&node)?;
    println!("{}", node.addresses()[0]);
    Ok(serving.await?)
}

async fn call(address: &str) -> Outcome<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", address])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut listens = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut listens)?;

    let node = node("client")?.start_on_tokio()?;
    let peer = node.connect_async(listens.trim()).await?;
    let client = counter::client(&peer).await?;
    for amount in 1..=3 {
        let count = client.add(context::current(), amount).await?;
        println!("added {amount} over {}: {count}", peer.link().unwrap_or_default());
    }
    server.kill()?;
    server.wait()?;
    let killed = Instant::now();
    let mut patient = context::current();
    patient.deadline = Instant::now() + Duration::from_secs(60);
    match client.never(patient).await {
        Err(error) => println!("the server was killed; after {:?}: {error}", killed.elapsed()),
        Ok(()) => return Err("an answer from a server that is dead".into()),
    }
    Ok(())
}

//! Two processes: a gRPC server that is killed, and a client whose channel finds the one that takes its place.
//!
//! `cargo run -p tonic-transport --example tonic_pair -- tcp://127.0.0.1:0` plays both; `shm://@pair` is memory that they share, and with
//! `--features verbs` there is `rdma://ADDRESS-OF-THE-DEVICE:0`, too.

#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod echo;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo::{EchoClient, EchoServer, Payload};
use tonic::transport::{Endpoint, Server};
use tonic_transport::RingConnector;
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
    let incoming = tonic_transport::incoming(&node)?;
    println!("{}", node.addresses()[0]);
    Server::builder()
        .add_service(EchoServer)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

fn start_server(address: &str) -> Outcome<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", address])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut listens = String::new();
    BufReader::new(child.stdout.take().ok_or("a pipe")?).read_line(&mut listens)?;
    Ok((child, listens.trim().to_owned()))
}

async fn call(address: &str) -> Outcome<()> {
    let (mut child, address) = start_server(address)?;
    let node = Arc::new(node("client")?.start_on_tokio()?);
    let connector = RingConnector::new(node, [address.clone()]);
    let channel = Endpoint::from_static("http://echo").connect_with_connector_lazy(connector);
    let mut client = EchoClient::new(channel);
    let answer = client.once(Payload::of(64)).await?;
    println!("{} bytes came back", answer.data.len());
    println!("{} bytes streamed back", client.stream_all(1_000, 1_024).await?);
    let killed = Instant::now();
    child.kill()?;
    child.wait()?;
    let error = client
        .once(Payload::of(64))
        .await
        .err()
        .ok_or("answered by nobody")?;
    println!("killed: {:?} after {:?}", error.code(), killed.elapsed());
    (child, _) = start_server(&address)?;
    while client.once(Payload::of(64)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("and the next one answers");
    child.kill()?;
    child.wait()?;
    Ok(())
}

//! Two processes, one cluster: a member asks another's actor, watches it, and is told when that process is killed.
//!
//! `cargo run -p tellus-transport --example tellus_pair -- tcp` plays both; or `shm`, and `rdma` with `--features verbs`.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellus::cluster::downing::DownAfterDeadline;
use tellus::cluster::failure::{Deadline, DeadlineFailureDetector};
use tellus::cluster::{self, EndpointConfig, Key, Manifest, receptionist};
use tellus::{Actor, ActorContext, ActorRef, ActorSystem, Control, Incoming, ReplyTo, Untimed};
use tellus_transport::RingTransport;
use transport::Node;
use transport_rdma::Shm;
use transport_tcp::Tcp;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Serialize, Deserialize)]
enum Greet {
    Hello { reply_to: ReplyTo<String> },
}

impl Manifest for Greet {
    const MANIFEST: &'static str = "greet";
}

struct Greeter;

impl Actor for Greeter {
    type Message = Greet;
    type Timers = Untimed;
    type State = ();
    type Error = Infallible;

    fn init(&self, _: &ActorContext<Greet>) -> Result<(), Infallible> {
        Ok(())
    }

    fn receive(
        &self,
        _: &ActorContext<Greet>,
        incoming: Incoming<Greet>,
        (): (),
    ) -> Result<Control<()>, Infallible> {
        if let Incoming::Message(Greet::Hello { reply_to }) = incoming {
            reply_to.reply(format!("hello from process {}", std::process::id()));
        }
        Ok(Control::Continue(()))
    }
}

/// Stops when the greeter has terminated.
struct Watcher(ActorRef<Greet>);

impl Actor for Watcher {
    type Message = ();
    type Timers = Untimed;
    type State = ();
    type Error = Infallible;

    fn init(&self, context: &ActorContext<()>) -> Result<(), Infallible> {
        context.watch(&self.0);
        Ok(())
    }

    fn receive(
        &self,
        _: &ActorContext<()>,
        incoming: Incoming<()>,
        (): (),
    ) -> Result<Control<()>, Infallible> {
        Ok(match incoming {
            Incoming::Terminated(_) => Control::Stop,
            _ => Control::Continue(()),
        })
    }
}

/// The name in shared memory of the member with this address.
fn in_shared_memory(addr: SocketAddr) -> String {
    format!("shm://@tellus-pair-{addr}")
}

fn start_endpoint(over: &str, name: &str) -> Outcome<SocketAddr> {
    // In shared memory nobody listens there: it has to be this member's own, and that is all.
    let own = SocketAddr::from(([127, 0, 0, 1], 10_000 + (std::process::id() % 50_000) as u16));
    let builder = Node::builder(name).secret(b"shared by all nodes of the cluster");
    let builder = match over {
        "tcp" => builder.transport(Tcp::new()).listen("tcp://127.0.0.1:0"),
        "shm" => builder.transport(Shm::new()).listen(&in_shared_memory(own)),
        #[cfg(feature = "verbs")]
        "rdma" => builder
            .transport(transport_rdma::Rdma::new(Default::default())?)
            .listen(&format!("rdma://{}:0", std::env::var("SOFT_ROCE_ADDRESS")?)),
        _ => return Err("over what? tcp, shm, or rdma with --features verbs".into()),
    };
    let node = builder.start_on_tokio()?;
    let transport = match over {
        "shm" => RingTransport::dialling(node, |addr| vec![in_shared_memory(addr)])?,
        "tcp" => RingTransport::new(node, "tcp")?,
        _ => RingTransport::new(node, "rdma")?,
    };
    let addr = transport.local_addr().unwrap_or(own);
    let silence = Deadline::new(Duration::from_secs(3))?;
    let mut config = EndpointConfig::new(addr);
    // The default one learns from what it has heard: on a slow machine it suspects a member that it has hardly heard yet.
    config.failure_detector = Arc::new(move || Box::new(DeadlineFailureDetector::new(silence)));
    config.downing_provider = Arc::new(|| Box::new(DownAfterDeadline::new(Duration::from_secs(1))));
    cluster::start_endpoint(config, transport)?;
    Ok(addr)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let over = arguments.next().unwrap_or_default();
    if arguments.next().as_deref() == Some("greet") {
        return greet(&over).await;
    }
    let mut greeter = Command::new(std::env::current_exe()?)
        .args([&over, "greet"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut seed = String::new();
    BufReader::new(greeter.stdout.take().ok_or("a pipe")?).read_line(&mut seed)?;
    let seed: SocketAddr = seed.trim().parse()?;

    start_endpoint(&over, "caller")?;
    cluster::join(&[seed]).await?;
    let key = Key::new("greeter");
    let remote: ActorRef<Greet> = loop {
        match receptionist::lookup_at(&key, seed)?.into_iter().next() {
            Some(remote) => break remote,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let hello = remote.ask(Duration::from_secs(5), |reply_to| Greet::Hello { reply_to });
    println!("{}", hello.await?);
    let watcher = ActorSystem::new(Watcher(remote));
    let killed = Instant::now();
    greeter.kill()?;
    greeter.wait()?;
    watcher.terminated().await?;
    println!(
        "killed, downed, and its watcher told after {:?}",
        killed.elapsed()
    );
    Ok(())
}

/// The process that is asked.
async fn greet(over: &str) -> Outcome<()> {
    let addr = start_endpoint(over, "greeter")?;
    cluster::form()?;
    let system = ActorSystem::new(Greeter);
    cluster::register(&Key::new("greeter"), system.root())?;
    println!("{addr}");
    system.terminated().await?;
    Ok(())
}

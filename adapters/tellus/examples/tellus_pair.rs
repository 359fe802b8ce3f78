//! Two processes, one cluster: a member asks another's actor, watches it, and is told when that process is killed.
//!
//! `cargo run -p tellus-transport --example tellus_pair` plays both.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellus::cluster::downing::DownAfterDeadline;
use tellus::cluster::{self, EndpointConfig, Key, Manifest, receptionist};
use tellus::{Actor, ActorContext, ActorRef, ActorSystem, Control, Incoming, ReplyTo, Untimed};
use tellus_transport::RingTransport;
use transport::Node;
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

fn start_endpoint(name: &str) -> Outcome<SocketAddr> {
    let node = Node::builder(name)
        .secret(b"shared by all nodes of the cluster")
        .transport(Tcp::new())
        .listen("tcp://127.0.0.1:0")
        .start_on_tokio()?;
    let transport = RingTransport::new(node, "tcp")?;
    let addr = transport.local_addr()?;
    let mut config = EndpointConfig::new(addr);
    config.downing_provider = Arc::new(|| Box::new(DownAfterDeadline::new(Duration::from_secs(1))));
    cluster::start_endpoint(config, transport)?;
    Ok(addr)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some("greet") {
        return greet().await;
    }
    let mut greeter = Command::new(std::env::current_exe()?)
        .arg("greet")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut seed = String::new();
    BufReader::new(greeter.stdout.take().ok_or("a pipe")?).read_line(&mut seed)?;
    let seed: SocketAddr = seed.trim().parse()?;

    start_endpoint("caller")?;
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
async fn greet() -> Outcome<()> {
    let addr = start_endpoint("greeter")?;
    cluster::form()?;
    let system = ActorSystem::new(Greeter);
    cluster::register(&Key::new("greeter"), system.root())?;
    println!("{addr}");
    system.terminated().await?;
    Ok(())
}

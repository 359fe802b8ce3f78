//! Two processes, one `tellus` cluster over our transport: a member joins, asks and watches; the other is killed. A process
//! has one endpoint, so both are other processes of the test.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tellus::cluster::downing::DownAfterDeadline;
use tellus::cluster::failure::{Deadline, DeadlineFailureDetector};
use tellus::cluster::{self, EndpointConfig, Key, Manifest, MemberState, receptionist};
use tellus::{Actor, ActorContext, ActorRef, ActorSystem, Control, Incoming, ReplyTo, Untimed};
use tellus_transport::RingTransport;
use tests::over::Over;
use tests::process::{OtherProcess, Role};

#[derive(Serialize, Deserialize)]
enum Count {
    Add(u64),
    Total { reply_to: ReplyTo<u64> },
}

impl Manifest for Count {
    const MANIFEST: &'static str = "count";
}

struct Counter;

impl Actor for Counter {
    type Message = Count;
    type Timers = Untimed;
    type State = u64;
    type Error = Infallible;

    fn init(&self, _: &ActorContext<Count>) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn receive(
        &self,
        _: &ActorContext<Count>,
        incoming: Incoming<Count>,
        total: u64,
    ) -> Result<Control<u64>, Infallible> {
        Ok(Control::Continue(match incoming {
            Incoming::Message(Count::Add(more)) => total + more,
            Incoming::Message(Count::Total { reply_to }) => {
                reply_to.reply(total);
                total
            }
            _ => total,
        }))
    }
}

/// Stops when the counter has terminated.
struct Watcher(ActorRef<Count>);

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

/// Starts the endpoint of this process; the address that it advertises.
fn start_endpoint(over: Over, name: &str) -> SocketAddr {
    // Nobody listens on it where shared memory has a name instead: it only has to be this process's own.
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + (std::process::id() % 50_000) as u16));
    let shm = |addr: SocketAddr| format!("shm://@tellus-transport-test-{addr}");
    let listen = match over {
        Over::Shm => shm(own),
        Over::Tcp | Over::Rdma => over.free_address(),
    };
    let node = over.builder(name).listen(&listen).start_on_tokio().unwrap();
    let transport = match over {
        Over::Shm => RingTransport::dialling(node, move |addr| vec![shm(addr)]),
        Over::Tcp | Over::Rdma => RingTransport::new(node, over.name()),
    };
    let transport = transport.unwrap();
    let advertised = transport.local_addr().unwrap_or(own);
    let deadline = Deadline::new(Duration::from_secs(3)).unwrap();
    let mut config = EndpointConfig::new(advertised);
    config.failure_detector = Arc::new(move || Box::new(DeadlineFailureDetector::new(deadline)));
    config.downing_provider = Arc::new(|| Box::new(DownAfterDeadline::new(Duration::from_millis(200))));
    cluster::start_endpoint(config, transport).unwrap();
    advertised
}

/// The process that is killed: forms a cluster, and counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn count_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let seed = start_endpoint(Over::of(role.argument()), "seed");
    cluster::form().unwrap();
    let system = ActorSystem::new(Counter);
    cluster::register(&Key::new("counter"), system.root()).unwrap();
    role.tell(&seed.to_string());
    let _ = system.terminated().await;
}

/// The process that stays: joins, asks, watches, and tells what it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ask_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let (over, seed) = role.argument().split_once(' ').unwrap();
    let seed: SocketAddr = seed.parse().unwrap();
    start_endpoint(Over::of(over), "joiner");
    cluster::join(&[seed]).await.unwrap();
    let key = Key::new("counter");
    let counter: ActorRef<Count> = loop {
        match receptionist::lookup_at(&key, seed).unwrap().into_iter().next() {
            Some(counter) => break counter,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    for add in 1..=100 {
        counter.tell(Count::Add(add));
    }
    let patience = Duration::from_secs(20);
    let total = counter.ask(patience, |reply_to| Count::Total { reply_to }).await;
    role.tell(&total.unwrap().to_string());
    let watcher = ActorSystem::new(Watcher(counter));
    watcher.terminated().await.unwrap();
    let down = cluster::members()
        .unwrap()
        .iter()
        .any(|member| member.addr() == seed && member.state() == MemberState::Down);
    role.tell(if down { "down" } else { "terminated, and not down" });
}

fn a_killed_member_is_downed_and_its_watcher_is_told(over: Over) {
    let name = over.name();
    let mut seed = OtherProcess::start("count_as_the_other_process", name);
    let addr = seed.told();
    let joiner = OtherProcess::start("ask_as_the_other_process", &format!("{name} {addr}"));
    assert_eq!(joiner.told(), "5050");
    let killed = Instant::now();
    seed.kill();
    assert_eq!(joiner.told(), "down");
    println!("{name}: down {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(60));
}

tests::over_each_transport! { a_killed_member_is_downed_and_its_watcher_is_told }

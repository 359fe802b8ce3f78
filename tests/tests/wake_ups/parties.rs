//! The nodes, their runtimes and callers, and whoever watches that each call is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::over::Over;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use transport::{Node, Peer, Timing, Wait};

use crate::service::serve;
use crate::traffic::{Beside, Place, Random, Traffic, Way};

/// In which a call is answered on any machine, however busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Times that play no part.
pub(crate) const ENDLESS: Timing = Timing {
    heartbeat: Duration::from_secs(600),
    silence: Duration::from_secs(3600),
    resume_window: Duration::from_secs(3600),
    better_link: Duration::from_secs(3600),
};

/// Who drives a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Driven {
    ByTokio(Wait),
    ByAThread(Wait),
}

/// A node and the runtime of its tasks.
struct Party {
    // Before the runtime that drives it.
    node: Arc<Node>,
    runtime: Runtime,
}

impl Party {
    fn start(over: Over, name: &str, driven: Driven, listens: bool, traffic: &Traffic) -> Party {
        // No timer: the runtime sleeps until something is told of.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(if traffic.clients.len() > 3 { 1 } else { 2 })
            .enable_all()
            .build()
            .unwrap();
        let mut builder = over.builder(name).timing(ENDLESS);
        if let Some(sizes) = traffic.rings {
            builder = builder.rings(sizes);
        }
        if listens {
            builder = builder.listen(&over.free_address());
        }
        let node = runtime.block_on(async {
            match driven {
                Driven::ByTokio(wait) => builder.wait(wait).start_on_tokio(),
                Driven::ByAThread(wait) => builder.wait(wait).start(),
            }
        });
        Party {
            node: Arc::new(node.unwrap()),
            runtime,
        }
    }
}

/// How far each caller has come, and until when they go on.
struct Watch {
    calls: Vec<AtomicU64>,
    until: Instant,
    over: AtomicBool,
}

impl Watch {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Returns when all have made their last call; an error if one is not answered.
    fn watch(&self, done: impl Fn() -> bool, unseen: impl Fn() -> Vec<String>) -> Result<(), String> {
        let (mut before, mut since) = (Vec::new(), Instant::now());
        while !done() {
            thread::sleep(Duration::from_millis(20));
            let now: Vec<_> = self
                .calls
                .iter()
                .map(|calls| calls.load(Ordering::Relaxed))
                .collect();
            if now != before {
                (before, since) = (now, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!(
                    "nothing for {PATIENCE:?}; calls that were answered, of each caller: {before:?}; unseen at {:?}",
                    unseen()
                ));
            }
        }
        Ok(())
    }
}

/// For how long a case goes on.
fn length() -> Duration {
    let seconds = std::env::var("WAKE_UPS_SECONDS");
    Duration::from_secs_f64(seconds.map_or(1.0, |seconds| seconds.parse().expect("a number of seconds")))
}

/// Lets all callers call, in rounds in which each of several takes part or does not.
///
/// # Panics
/// When a call is not answered.
pub(crate) fn run(over: Over, traffic: &'static Traffic) {
    let server = Party::start(over, "server", traffic.server, true, traffic);
    server.runtime.block_on(async { serve(&server.node, traffic) });
    let address = server.node.addresses()[0].clone();
    let clients: Vec<_> = (0..)
        .zip(traffic.clients)
        .map(|(number, driven)| {
            let name = format!("client {number}");
            let client = Party::start(over, &name, *driven, false, traffic);
            let peer = client
                .runtime
                .block_on(client.node.connect_async(&address))
                .unwrap();
            (client, peer)
        })
        .collect();
    let callers = clients.len() * traffic.callers() + traffic.beside.len();
    let watch = Arc::new(Watch {
        calls: (0..callers).map(|_| AtomicU64::new(0)).collect(),
        until: Instant::now() + length(),
        over: AtomicBool::new(false),
    });
    let barrier = Arc::new(Barrier::new(callers));
    let mut number = 0;
    let mut tasks = Vec::new();
    // What a caller begins with is watched as well.
    let mut spawn = |party: &Party, beside: Option<Beside>, caller: usize, peer: &Peer| {
        let place = Place {
            over,
            server: server.node.clone(),
            to_server: peer.clone(),
        };
        let calling = call(
            place,
            beside,
            caller,
            number,
            traffic,
            watch.clone(),
            barrier.clone(),
        );
        tasks.push(party.runtime.spawn(calling));
        number += 1;
    };
    for (client, peer) in &clients {
        for caller in 0..traffic.callers() {
            spawn(client, None, caller, peer);
        }
    }
    for beside in traffic.beside {
        let (client, peer) = &clients[0];
        let party = match beside {
            Beside::ClientBlocks => client,
            _ => &server,
        };
        spawn(party, Some(*beside), 0, peer);
    }
    let done = || tasks.iter().all(JoinHandle::is_finished);
    // Where something stood.
    let unseen = || {
        let nodes = clients.iter().map(|(client, _)| client).chain([&server]);
        let slept = nodes.filter(|party| party.node.poll());
        slept.map(|party| party.node.name().to_owned()).collect()
    };
    let watched = watch.watch(done, unseen);
    if watched.is_err() {
        // A runtime waits for whoever blocks on it, and those wait for an answer.
        clients.iter().for_each(|(_, peer)| peer.close(Duration::ZERO));
    }
    watched.unwrap_or_else(|unanswered| panic!("{unanswered}"));
    for task in tasks {
        server.runtime.block_on(task).unwrap();
    }
    let calls: u64 = watch
        .calls
        .iter()
        .map(|calls| calls.load(Ordering::Relaxed))
        .sum();
    println!("{calls} calls");
    drop(clients);
}

async fn call(
    place: Place,
    beside: Option<Beside>,
    caller: usize,
    number: usize,
    traffic: &'static Traffic,
    watch: Arc<Watch>,
    barrier: Arc<Barrier>,
) {
    let mut way = match beside {
        None => traffic.way(caller, &place.to_server).await,
        Some(beside) => Way::Beside(beside, place),
    };
    let mut random = Random::new(number);
    let alone = watch.calls.len() == 1;
    for round in 0.. {
        if alone || random.below(3) > 0 {
            way.call(round, traffic, &mut random).await;
            watch.calls[number].fetch_add(1, Ordering::Relaxed);
        }
        random.pause().await;
        // One says for all whether it was the last.
        if barrier.wait().await.is_leader() {
            watch.over.store(watch.is_late(), Ordering::Relaxed);
        }
        barrier.wait().await;
        if watch.over.load(Ordering::Relaxed) {
            return;
        }
    }
}

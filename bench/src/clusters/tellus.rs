//! `tellus`: an actor that is told and asked from another member of its cluster.

use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellus::cluster::transport::QuicTransport;
use tellus::cluster::{self, EndpointConfig, Key, Manifest, receptionist};
use tellus::{Actor, ActorContext, ActorRef, ActorSystem, Control, Incoming, ReplyTo, Untimed};
use tellus_transport::RingTransport;

use super::{BURST, Client, Over, went_wrong};
use crate::error::Error;

const KEY: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Serialize, Deserialize)]
enum Work {
    Tell(Vec<u8>),
    Ask {
        payload: Vec<u8>,
        reply_to: ReplyTo<Vec<u8>>,
    },
    Taken {
        reply_to: ReplyTo<u64>,
    },
}

impl Manifest for Work {
    const MANIFEST: &'static str = "work";
}

struct Worker;

impl Actor for Worker {
    type Message = Work;
    type Timers = Untimed;
    type State = u64;
    type Error = Infallible;

    fn init(&self, _: &ActorContext<Work>) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn receive(
        &self,
        _: &ActorContext<Work>,
        incoming: Incoming<Work>,
        taken: u64,
    ) -> Result<Control<u64>, Infallible> {
        let Incoming::Message(work) = incoming else {
            return Ok(Control::Continue(taken));
        };
        Ok(Control::Continue(match work {
            Work::Tell(_) => taken + 1,
            Work::Ask { payload, reply_to } => {
                reply_to.reply(payload);
                taken
            }
            Work::Taken { reply_to } => {
                reply_to.reply(taken);
                taken
            }
        }))
    }
}

/// Starts the endpoint of this process; the address that it advertises.
fn start_endpoint(over: Over, name: &str) -> Result<SocketAddr, Error> {
    let failed = |error: &dyn std::fmt::Display| went_wrong("starting an endpoint", error);
    if over == Over::Own {
        let transport =
            QuicTransport::dev(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| failed(&error))?;
        let addr = transport.local_addr().map_err(|error| failed(&error))?;
        cluster::start_endpoint(EndpointConfig::new(addr), transport).map_err(|error| failed(&error))?;
        return Ok(addr);
    }
    let shm = |addr: SocketAddr| format!("shm://@bench-clusters-{addr}");
    let (own, transport) = if over == Over::Shm {
        let own = Over::stand_in();
        let node = over.node(name, Some(&shm(own)))?;
        (own, RingTransport::dialling(node, move |addr| vec![shm(addr)]))
    } else {
        let node = over.node(name, Some(&over.listen()))?;
        (Over::stand_in(), RingTransport::new(node, over.name()))
    };
    let transport = transport.map_err(|error| failed(&error))?;
    let addr = transport.local_addr().unwrap_or(own);
    cluster::start_endpoint(EndpointConfig::new(addr), transport).map_err(|error| failed(&error))?;
    Ok(addr)
}

pub(super) async fn serve(over: Over) -> Result<(String, Box<dyn Any>), Error> {
    let addr = start_endpoint(over, "server")?;
    cluster::form().map_err(|error| went_wrong("forming a cluster", error))?;
    let system = ActorSystem::new(Worker);
    cluster::register(&Key::new(KEY), system.root()).map_err(|error| went_wrong("registering", error))?;
    Ok((addr.to_string(), Box::new(system)))
}

/// The member that asks.
pub(super) struct Asker {
    worker: ActorRef<Work>,
    sent: u64,
}

impl Asker {
    pub(super) async fn connect(over: Over, server: &str) -> Result<Asker, Error> {
        let seed: SocketAddr = server.parse().map_err(|error| went_wrong("the seed", error))?;
        start_endpoint(over, "client")?;
        cluster::join(&[seed])
            .await
            .map_err(|error| went_wrong("joining", error))?;
        loop {
            let found = receptionist::lookup_at(&Key::new(KEY), seed);
            let found = found.map_err(|error| went_wrong("looking up", error))?;
            if let Some(worker) = found.into_iter().next() {
                return Ok(Asker { worker, sent: 0 });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Client for Asker {
    async fn call(&mut self, size: usize) -> Result<(), Error> {
        let payload = vec![7; size];
        let answer = self
            .worker
            .ask(PATIENCE, |reply_to| Work::Ask { payload, reply_to })
            .await
            .map_err(|error| went_wrong("an ask", error))?;
        match answer.len() == size {
            true => Ok(()),
            false => Err(went_wrong("an ask", "its answer has another length")),
        }
    }

    async fn stream(&mut self, count: u64, size: usize) -> Result<(), Error> {
        let payload = vec![7; size];
        let mut left = count;
        while left > 0 {
            let burst = left.min(BURST);
            for _ in 0..burst {
                self.worker.tell(Work::Tell(payload.clone()));
            }
            left -= burst;
            self.sent += burst;
            let taken = self.worker.ask(PATIENCE, |reply_to| Work::Taken { reply_to });
            let taken = taken.await.map_err(|error| went_wrong("an ask", error))?;
            if taken != self.sent {
                return Err(Error::Miscounted {
                    sent: self.sent,
                    taken: Some(taken),
                });
            }
        }
        Ok(())
    }
}

//! `ractor`: an actor in a process group, cast to and called from another node.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t, cast};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use ractor_transport::KeptConnection;

use super::{BURST, Client, Over, went_wrong};
use crate::error::Error;

const GROUP: &str = "bench";
const PATIENCE_MS: u64 = 20_000;

#[derive(RactorClusterMessage)]
enum Work {
    Cast(Vec<u8>),
    #[rpc]
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    #[rpc]
    Taken(RpcReplyPort<u64>),
}

struct Worker;

impl Actor for Worker {
    type Msg = Work;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Work>, (): ()) -> Result<u64, ActorProcessingErr> {
        ractor::pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        message: Work,
        taken: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Work::Cast(_) => *taken += 1,
            Work::Call(payload, reply) => drop(reply.send(payload)),
            Work::Taken(reply) => drop(reply.send(*taken)),
        }
        Ok(())
    }
}

async fn node_server(name: &str, port: u16) -> Result<ActorRef<NodeServerMessage>, Error> {
    let (name, host) = (name.to_owned(), "localhost".to_owned());
    let server = NodeServer::new(port, "cookie".to_owned(), name, host, None, None)
        .with_listen_addr([127, 0, 0, 1].into());
    let (server, _) = Actor::spawn(None, server, ())
        .await
        .map_err(|error| went_wrong("starting a node server", error))?;
    Ok(server)
}

/// A port that nobody listens on: a node server does not tell which one the system chose.
fn free_port() -> Result<u16, Error> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0");
    let port = probe.and_then(|probe| probe.local_addr()).map(|addr| addr.port());
    port.map_err(|error| went_wrong("finding a port", error))
}

pub(super) async fn serve(over: Over) -> Result<(String, Box<dyn Any>), Error> {
    Actor::spawn(None, Worker, ())
        .await
        .map_err(|error| went_wrong("starting an actor", error))?;
    if over == Over::Own {
        let port = free_port()?;
        let server = node_server("server", port).await?;
        return Ok((format!("127.0.0.1:{port}"), Box::new(server)));
    }
    let server = node_server("server", 0).await?;
    let node = over.node("server", Some(&over.listen()))?;
    ractor_transport::accept(server, &node).map_err(|error| went_wrong("accepting", error))?;
    Ok((node.addresses()[0].clone(), Box::new(node)))
}

/// The node that calls.
pub(super) struct Caller {
    worker: ActorRef<Work>,
    sent: u64,
    _kept: Option<KeptConnection>,
}

impl Caller {
    pub(super) async fn connect(over: Over, server: &str) -> Result<Caller, Error> {
        let node_server = node_server("client", 0).await?;
        let mut kept = None;
        if over == Over::Own {
            ractor_cluster::client_connect(&node_server, server)
                .await
                .map_err(|error| went_wrong("connecting", error))?;
        } else {
            let node = Arc::new(over.node("client", None)?);
            kept = Some(KeptConnection::start(node_server, node, vec![server.to_owned()]));
        }
        loop {
            if let Some(worker) = ractor::pg::get_members(&GROUP.to_owned()).pop() {
                return Ok(Caller {
                    worker: worker.into(),
                    sent: 0,
                    _kept: kept,
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Client for Caller {
    async fn call(&mut self, size: usize) -> Result<(), Error> {
        let answer = call_t!(self.worker, Work::Call, PATIENCE_MS, vec![7; size]);
        let answer = answer.map_err(|error| went_wrong("a call", error))?;
        match answer.len() == size {
            true => Ok(()),
            false => Err(went_wrong("a call", "its answer has another length")),
        }
    }

    async fn stream(&mut self, count: u64, size: usize) -> Result<(), Error> {
        let payload = vec![7; size];
        let mut left = count;
        while left > 0 {
            let burst = left.min(BURST);
            for _ in 0..burst {
                cast!(self.worker, Work::Cast(payload.clone()))
                    .map_err(|error| went_wrong("a cast", error))?;
            }
            left -= burst;
            self.sent += burst;
            let taken = call_t!(self.worker, Work::Taken, PATIENCE_MS);
            let taken = taken.map_err(|error| went_wrong("a call", error))?;
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

//! A node session that is started again whenever it is lost, which `ractor_cluster` leaves to its user.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use transport::{Node, Peer};

use crate::{SessionError, open_session};

/// Pauses between attempts: the first, and the longest, each twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Keeps a node session with a peer: starts it again, over a new session of the transport if need be, as often as it is lost.
/// Dropping this ends the keeping, not the node session.
///
/// Of two nodes one should keep the connection: `ractor_cluster` closes the second session between two nodes.
pub struct KeptConnection {
    keeping: JoinHandle<()>,
}

impl KeptConnection {
    /// Keeps a node session with whoever listens on `addresses`, best first. The first attempt is under way when this
    /// returns. Call within a tokio runtime.
    pub fn start(
        node_server: ActorRef<NodeServerMessage>,
        node: Arc<Node>,
        addresses: Vec<String>,
    ) -> KeptConnection {
        let keeping = tokio::spawn(async move {
            let (shortest, longest) = PAUSES;
            let mut pause = shortest;
            let mut peer = None;
            let mut told = false;
            loop {
                let (tell, over) = oneshot::channel();
                match attempt(&node_server, &node, &addresses, &mut peer, tell).await {
                    Ok(()) => {
                        told = false;
                        let started = tokio::time::Instant::now();
                        // The sender is dropped with the session.
                        let _ = over.await;
                        tracing::info!("node session lost");
                        if started.elapsed() > longest {
                            pause = shortest;
                        }
                    }
                    Err(SessionError::NodeServer(error)) => {
                        tracing::info!(%error, "no longer keeping a node session");
                        return;
                    }
                    // Nobody else sees a secret or an address that is wrong: said once, and again when it has worked in between.
                    Err(error) if !told => {
                        told = true;
                        tracing::warn!(%error, ?addresses, "no node session yet: trying again");
                    }
                    Err(error) => tracing::debug!(%error, "no node session yet"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        });
        KeptConnection { keeping }
    }
}

impl Drop for KeptConnection {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// One node session, over the session of before if that still lives.
async fn attempt(
    node_server: &ActorRef<NodeServerMessage>,
    node: &Node,
    addresses: &[String],
    peer: &mut Option<Peer>,
    tell: oneshot::Sender<()>,
) -> Result<(), SessionError> {
    let living = match peer.take().filter(|peer| peer.ended().is_none()) {
        Some(peer) => peer,
        None => node.connect_any_async(addresses).await?,
    };
    let opened = open_session(node_server, peer.insert(living), Some(tell)).await;
    if matches!(opened, Err(SessionError::TimedOut(_) | SessionError::Open(_))) {
        // Whatever is wrong with this session, the next attempt makes another.
        if let Some(peer) = peer.take() {
            tokio::task::spawn_blocking(move || peer.close(Duration::ZERO));
        }
    }
    opened
}

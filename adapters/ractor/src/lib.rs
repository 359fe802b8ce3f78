#![doc = include_str!("../README.md")]

mod kept;
mod session;

use std::time::Duration;

use ractor::ActorRef;
use ractor_cluster::NodeServerMessage;
use transport::stream::{OpenError, StreamOptions};
use transport::{ConnectError, Node, NodeError, Peer};

pub use kept::KeptConnection;
pub use session::SessionStream;

/// The name of the streams that carry node sessions.
const STREAMS: &str = "ractor";

/// How long a peer may take to answer that it takes a node session.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node session was not started.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No session with the peer's node.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer's node takes no node sessions: nobody called [`accept`] there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The peer did not answer in time.
    #[error("the peer did not take the node session within {0:?}")]
    TimedOut(Duration),
    /// This side's `NodeServer` is gone.
    #[error("the node server does not take messages: {0}")]
    NodeServer(String),
}

/// Takes node sessions that peers open, and gives them to the node server, until the node is closed or the task that this
/// returns is aborted. Call it once for each node, within a tokio runtime.
///
/// # Errors
/// [`NodeError`]: it was called before for this node, or the node is closed.
pub fn accept(
    node_server: ActorRef<NodeServerMessage>,
    node: &Node,
) -> Result<tokio::task::JoinHandle<()>, NodeError> {
    let mut listener = node.listen_streams(STREAMS, StreamOptions::default())?;
    Ok(tokio::spawn(async move {
        while let Ok(stream) = listener.accept_stream().await {
            let stream = Box::new(SessionStream::new(stream));
            let opened = NodeServerMessage::ConnectionOpenedExternal {
                stream,
                is_server: true,
            };
            if node_server.cast(opened).is_err() {
                break;
            }
        }
    }))
}

/// Starts one node session with the node that listens on `address`, as `ractor_cluster::client_connect` does over TCP. It is
/// not started again when it is lost: [`KeptConnection`] does that.
///
/// # Errors
/// [`SessionError`].
pub async fn connect(
    node_server: &ActorRef<NodeServerMessage>,
    node: &Node,
    address: &str,
) -> Result<Peer, SessionError> {
    let peer = node.connect_async(address).await?;
    open_session(node_server, &peer, None).await?;
    Ok(peer)
}

async fn open_session(
    node_server: &ActorRef<NodeServerMessage>,
    peer: &Peer,
    over: Option<tokio::sync::oneshot::Sender<()>>,
) -> Result<(), SessionError> {
    let opening = peer.open_stream(STREAMS, StreamOptions::default());
    let stream = tokio::time::timeout(PATIENCE, opening)
        .await
        .map_err(|_| SessionError::TimedOut(PATIENCE))??;
    let stream = Box::new(SessionStream::new(stream).telling(over));
    ractor_cluster::client_connect_external(node_server, stream)
        .await
        .map_err(|error| SessionError::NodeServer(error.to_string()))
}

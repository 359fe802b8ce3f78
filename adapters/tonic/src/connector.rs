//! Connections that this node opens.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tower_service::Service;
use transport::stream::StreamOptions;
use transport::{Node, Peer};

use crate::STREAMS;
use crate::incoming::WINDOW;
use crate::io::RingIo;

/// How long a peer may take to answer that it takes a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens connections to one peer, for `tonic`'s `Endpoint::connect_with_connector` and hyper's clients. All of them share one
/// session, which is made anew when it is over. The URI is not looked at: it names the service for HTTP.
#[derive(Clone)]
pub struct RingConnector {
    node: Arc<Node>,
    addresses: Arc<[String]>,
    peer: Arc<Mutex<Option<Peer>>>,
}

impl RingConnector {
    /// Connects to the node that listens on these addresses, best first.
    pub fn new(node: Arc<Node>, addresses: impl IntoIterator<Item = String>) -> RingConnector {
        RingConnector {
            node,
            addresses: addresses.into_iter().collect(),
            peer: Arc::default(),
        }
    }

    async fn session(&self) -> io::Result<Peer> {
        // Those who come while somebody connects want the same session.
        let mut known = self.peer.clone().lock_owned().await;
        if let Some(peer) = known.as_ref().filter(|peer| peer.ended().is_none()) {
            return Ok(peer.clone());
        }
        let (node, addresses) = (self.node.clone(), self.addresses.clone());
        // Beside the caller, who may give up sooner: the next one finds what comes of it.
        let connecting = tokio::spawn(async move {
            let peer = node
                .connect_any_async(&addresses)
                .await
                .map_err(|error| io::Error::new(io::ErrorKind::ConnectionRefused, error))?;
            *known = Some(peer.clone());
            Ok(peer)
        });
        connecting.await.map_err(io::Error::other)?
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// No session with the peer, nobody who takes connections there, or no answer in 10 s.
    pub async fn connect(&self) -> io::Result<RingIo> {
        let peer = self.session().await?;
        let opening = peer.open_stream(STREAMS, StreamOptions { window: WINDOW });
        let stream = tokio::time::timeout(PATIENCE, opening).await??;
        Ok(RingIo::new(stream))
    }
}

impl Service<Uri> for RingConnector {
    type Response = TokioIo<RingIo>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<RingIo>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect().await.map(TokioIo::new) })
    }
}

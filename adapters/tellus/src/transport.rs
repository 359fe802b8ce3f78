//! The transport: a node, and how the addresses of members become addresses of nodes.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tellus::cluster::transport::{ConnectedControl, Transport, TransportError};
use tokio::sync::{Mutex, mpsc};
use transport::stream::StreamOptions;
use transport::{Node, NodeError, Peer};

use crate::connection::RingConnection;
use crate::incoming::{Accepted, Connections, queue, take_in};
use crate::session::{STREAMS, Session};

/// Data streams of each connection: as many as the QUIC transport of `tellus` has.
pub const DATA_STREAMS: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

/// How long a peer may take to answer that it takes a connection.
const PATIENCE: Duration = Duration::from_secs(10);

type Dial = dyn Fn(SocketAddr) -> Vec<String> + Send + Sync;

/// A [`Transport`] of `tellus` over a node: give it to `tellus::cluster::start_endpoint`.
pub struct RingTransport {
    node: Node,
    dial: Box<Dial>,
    connections: Arc<Connections>,
    accepted: Mutex<mpsc::Receiver<Accepted>>,
}

impl RingTransport {
    /// Over this node, in which members are dialled at `scheme://host:port`. Call within a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]: the node carries a transport of `tellus` already, or is closed.
    pub fn new(node: Node, scheme: &'static str) -> Result<RingTransport, NodeError> {
        RingTransport::dialling(node, move |addr| vec![format!("{scheme}://{addr}")])
    }

    /// Over this node; `dial` says at which addresses the node of a member listens, best first: over RDMA and TCP, say, or
    /// over shared memory, whose names have no host and port.
    ///
    /// # Errors
    /// As [`RingTransport::new`].
    pub fn dialling(
        node: Node,
        dial: impl Fn(SocketAddr) -> Vec<String> + Send + Sync + 'static,
    ) -> Result<RingTransport, NodeError> {
        let listener = node.listen_streams(STREAMS, StreamOptions::default())?;
        let connections = Arc::new(Connections::default());
        let (give, accepted) = queue();
        tokio::spawn(take_in(listener, connections.clone(), give));
        Ok(RingTransport {
            node,
            dial: Box::new(dial),
            connections,
            accepted: Mutex::new(accepted),
        })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The address that the node listens on, where that has a host and a port: what to advertise.
    ///
    /// # Errors
    /// When the node listens on no such address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addresses = self.node.addresses().iter();
        addresses
            .filter_map(|address| address.split_once("://"))
            .find_map(|(_, at)| at.parse().ok())
            .ok_or_else(|| {
                io::Error::other("the node listens on no host and port: say what to advertise yourself")
            })
    }

    async fn session(&self, addr: SocketAddr) -> Result<Peer, TransportError> {
        let connected = self.node.connect_any_async(&(self.dial)(addr)).await;
        connected.map_err(TransportError::other)
    }
}

impl Transport for RingTransport {
    type Connection = RingConnection;

    fn data_streams(&self) -> Option<NonZeroUsize> {
        Some(DATA_STREAMS)
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        max_frame_size: usize,
    ) -> Result<ConnectedControl<RingConnection>, TransportError> {
        let session = Arc::new(Session(self.session(addr).await?));
        let data = self.connections.add(&session.0);
        let opening = session.0.open_stream(STREAMS, StreamOptions::default());
        let control = tokio::time::timeout(PATIENCE, opening)
            .await
            .map_err(TransportError::other)?
            .map_err(TransportError::other)?;
        let connection = RingConnection::new(session.clone(), None, data, max_frame_size);
        let (control_tx, control_rx) = connection.halves(control);
        Ok(ConnectedControl {
            connection,
            control_tx,
            control_rx,
        })
    }

    async fn accept(&self, max_frame_size: usize) -> Result<RingConnection, TransportError> {
        let accepted = self.accepted.lock().await.recv().await;
        let Accepted { control, data } =
            accepted.ok_or_else(|| TransportError::other("the node is closed"))?;
        let session = Arc::new(Session(control.peer()));
        Ok(RingConnection::new(session, Some(control), data, max_frame_size))
    }
}

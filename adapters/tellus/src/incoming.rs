//! What peers open: control streams make connections, data streams go to the connection that they belong to.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use transport::Peer;
use transport::stream::{Incoming, IncomingKind, Stream, StreamListener, StreamReceiver};

/// Connections that may wait to be accepted; more are turned away.
const BACKLOG: usize = 64;

/// A connection that a peer has opened.
pub(crate) struct Accepted {
    pub(crate) control: Stream,
    pub(crate) data: mpsc::UnboundedReceiver<StreamReceiver>,
}

/// The connections of a node, and where the data streams of each go. Those of a connection are few, as its peer has only so
/// many handles.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Vec<(Peer, mpsc::UnboundedSender<StreamReceiver>)>>);

impl Connections {
    /// Where the data streams of a new connection will come. Ends with its session.
    pub(crate) fn add(self: &Arc<Self>, peer: &Peer) -> mpsc::UnboundedReceiver<StreamReceiver> {
        let (give, take) = mpsc::unbounded_channel();
        self.lock().push((peer.clone(), give));
        let (connections, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            peer.over().await;
            connections.lock().retain(|(known, _)| *known != peer);
        });
        take
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Peer, mpsc::UnboundedSender<StreamReceiver>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, incoming: Incoming) {
        let peer = incoming.peer();
        let connections = self.lock();
        let Some((_, give)) = connections.iter().find(|(known, _)| *known == peer) else {
            tracing::debug!(
                peer = peer.node(),
                "a data stream of no connection is turned away"
            );
            return;
        };
        match incoming.accept_receiver() {
            // A connection that is gone takes no more.
            Ok(stream) => drop(give.send(stream)),
            Err(error) => tracing::debug!(peer = peer.node(), %error, "a data stream was not accepted"),
        }
    }
}

/// Takes what peers open until the node is closed.
pub(crate) async fn take_in(
    mut listener: StreamListener,
    connections: Arc<Connections>,
    accepted: mpsc::Sender<Accepted>,
) {
    while let Ok(incoming) = listener.accept().await {
        if incoming.kind() == IncomingKind::OneWay {
            connections.give(incoming);
            continue;
        }
        // Turned away by dropping it.
        let Ok(place) = accepted.try_reserve() else {
            continue;
        };
        // Known before the peer can open a data stream.
        let data = connections.add(&incoming.peer());
        match incoming.accept() {
            Ok(control) => place.send(Accepted { control, data }),
            Err(error) => tracing::debug!(%error, "a connection was not accepted"),
        }
    }
}

/// A queue for connections that wait to be accepted.
pub(crate) fn queue() -> (mpsc::Sender<Accepted>, mpsc::Receiver<Accepted>) {
    mpsc::channel(BACKLOG)
}

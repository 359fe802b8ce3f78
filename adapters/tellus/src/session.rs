//! The session below a connection, and the name of its streams.

use std::time::Duration;

use transport::Peer;

/// The name of the streams that carry connections.
pub(crate) const STREAMS: &str = "tellus";

/// How long what was sent may take to arrive when a connection is dropped.
const LINGER: Duration = Duration::from_secs(1);

/// The session below a connection. Over when the connection and all halves of its streams have been dropped.
pub(crate) struct Session(pub(crate) Peer);

impl Drop for Session {
    fn drop(&mut self) {
        let peer = self.0.clone();
        if peer.ended().is_some() {
            return;
        }
        // Closing waits for the peer, and whoever drops a connection must not.
        let closing = std::thread::Builder::new()
            .name("close a session".into())
            .spawn(move || peer.close(LINGER));
        if let Err(error) = closing {
            tracing::warn!(%error, "no thread to close a session: it ends when the peer's does");
        }
    }
}

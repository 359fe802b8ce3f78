//! What happens to a node's sessions, told to whoever subscribes.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::session::Ended;
use crate::wait::lock;

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer connected, or was connected to.
    Connected {
        /// The peer's node.
        node: String,
        /// The link that carries the session: scheme and what was chosen for it.
        link: String,
    },
    /// The link died; the session waits for another.
    Suspended {
        /// The peer's node.
        node: String,
        /// Why the link died.
        cause: String,
    },
    /// Another link carries the session on.
    Resumed {
        /// The peer's node.
        node: String,
        /// The link.
        link: String,
    },
    /// The session is over.
    Ended {
        /// The peer's node.
        node: String,
        /// Why.
        why: Ended,
    },
    /// Somebody dialled and was turned away, or did not finish its handshake.
    HandshakeFailed {
        /// Who, as far as is known.
        peer: String,
        /// Why.
        cause: String,
    },
}

/// The subscribers of a node's events.
#[derive(Default)]
pub(crate) struct Events {
    subscribers: Mutex<Vec<SyncSender<Event>>>,
}

impl Events {
    pub(crate) fn subscribe(&self, capacity: usize) -> Receiver<Event> {
        let (sender, receiver) = sync_channel(capacity);
        lock(&self.subscribers).push(sender);
        receiver
    }

    pub(crate) fn tell(&self, event: Event) {
        tracing::info!(?event, "session event");
        lock(&self.subscribers).retain(|subscriber| {
            !matches!(
                subscriber.try_send(event.clone()),
                Err(TrySendError::Disconnected(_))
            )
        });
    }
}

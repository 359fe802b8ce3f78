//! A message as it is lent to whoever takes it, as it comes in, and as what is left of it when nobody does.

use std::sync::Arc;
use std::time::Duration;

use super::Port;
use crate::assembly::Assembled;
use crate::clock::Stamp;
use crate::dead_letter::Reason;
use crate::node::NodeInner;
use crate::peer::Peer;
use crate::trace::TraceContext;

/// A message, lent to whoever takes it from its mailbox.
#[derive(Clone, Copy)]
pub struct Message<'m> {
    /// The bytes, where they lie. They came from a peer: check them before you believe them.
    pub payload: &'m [u8],
    /// The correlation id, if the sender gave one.
    pub correlation: Option<u64>,
    /// The span that it was sent in, if the sender gave one: [`crate::Address::traced`].
    pub trace: Option<&'m TraceContext>,
    /// When it came in; `None` for one that is lent as it comes.
    pub(crate) at: Option<Stamp>,
    pub(crate) port: Option<&'m Port>,
    pub(crate) node: &'m Arc<NodeInner>,
}

impl Message<'_> {
    /// What becomes of it if nobody gets it.
    pub(crate) fn lost(&self, reason: Reason) -> Lost {
        Lost {
            reason,
            from: self.port.and_then(Port::sender),
            correlation: self.correlation,
            len: self.payload.len(),
            age: Some(self.at.map_or(Duration::ZERO, Stamp::age)),
        }
    }

    /// The sender's node; `None` for this node itself, or when its session is over.
    pub fn peer(&self) -> Option<Peer> {
        self.port.and_then(|port| port.peer.upgrade()).map(Peer)
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("len", &self.payload.len())
            .field("correlation", &self.correlation)
            .finish()
    }
}

/// The bytes of a message on its way into a mailbox.
pub(crate) enum Payload<'p> {
    /// They stand where they arrived.
    Lent(&'p [u8]),
    /// They were put together from chunks.
    Whole(Assembled),
}

impl Payload<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Lent(bytes) => bytes,
            Payload::Whole(bytes) => bytes,
        }
    }
}

/// A message that a mailbox of this node had and that nobody got.
pub(crate) struct Lost {
    pub(crate) reason: Reason,
    /// The sending node; `None` for this one.
    pub(crate) from: Option<String>,
    pub(crate) correlation: Option<u64>,
    pub(crate) len: usize,
    pub(crate) age: Option<Duration>,
}

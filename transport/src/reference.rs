//! References: addresses that can be put into messages, and stay valid on a third node.
//!
//! An [`Address`] is bound to a session of this node. A [`Reference`] says where the mailbox is: the node's name, where it
//! listens, the mailbox's name. Any node turns it into an address, connecting first if it has no session there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Target};
use crate::connect::{self, ConnectError};
use crate::node::{Node, NodeInner, find_transport};
use crate::peer::{Peer, ResolveError};
use crate::protocol::Asked;
use crate::surroundings::run;
use crate::wait::lock;

/// Where a mailbox is, for any node of the cluster.
///
/// It may have come from a peer: believing it means to dial where it says. That the node there has the name given and
/// knows the cluster's secret is checked; holders of the secret are trusted with the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The node's name.
    pub node: String,
    /// Where that node listens, best first; empty when it does not, and can only be reached over a session that it made.
    pub addresses: Vec<String>,
    /// The mailbox's name.
    pub mailbox: String,
}

/// The most addresses of a reference that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why a reference could not be turned into an address.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// None of the reference's addresses is of a transport that this node has, and there is no session with the node.
    #[error("no session with node {node:?}, and no way to make one: it listens on {addresses:?}")]
    OutOfReach {
        /// The node.
        node: String,
        /// Where it listens.
        addresses: Vec<String>,
    },
    /// Another node answers there: the one meant is gone, or has moved.
    #[error("node {found:?} answers where node {node:?} was")]
    AnotherNode {
        /// The node meant.
        node: String,
        /// The node that answers.
        found: String,
    },
    /// The node can't be connected to.
    #[error("connecting to node {node:?}: {source}")]
    Connect {
        /// The node.
        node: String,
        /// Why.
        source: ConnectError,
    },
    /// The node is there and the mailbox is not, or speaks something else.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

impl Address {
    /// Something to put into messages: whoever gets it can send here too. For a mailbox of a peer that dialled this node
    /// the reference holds no address to dial: it is valid on nodes that have a session with that peer.
    pub fn reference(&self) -> Reference {
        let (node, addresses) = match &self.target {
            Target::Local(_, node) => (node.identity.node.clone(), node.addresses().to_vec()),
            Target::Remote(route) => (route.peer.identity.node.clone(), route.peer.dialled.clone()),
        };
        Reference {
            node,
            addresses,
            mailbox: self.mailbox().to_owned(),
        }
    }
}

impl Node {
    /// The address that a reference stands for: of a mailbox of this node, of a peer, or of a node that is connected to
    /// first: then it blocks, for 10 s for each of its addresses at most.
    ///
    /// # Errors
    /// The node is out of reach, another one answers in its place, it can't be connected to, or it has no such mailbox:
    /// [`ReferenceError`] says which. Nothing was sent anywhere.
    pub fn resolve(&self, reference: &Reference) -> Result<Address, ReferenceError> {
        self.inner.refer(reference, None)
    }
}

impl NodeInner {
    pub(crate) fn refer(
        &self,
        reference: &Reference,
        asked: Option<Asked>,
    ) -> Result<Address, ReferenceError> {
        if reference.node == self.identity.node {
            return Ok(self.own_address(&reference.mailbox, asked.as_ref())?);
        }
        let peer = match self.peer_named(&reference.node) {
            Some(peer) => peer,
            None => self.meet(reference)?,
        };
        Ok(peer.address_speaking(&reference.mailbox, asked)?)
    }

    fn peer_named(&self, node: &str) -> Option<Peer> {
        let peers = lock(&self.peers);
        let mut named = peers.iter().filter(|peer| peer.identity.node == node);
        named.next_back().cloned().map(Peer)
    }

    /// Connects to the node of a reference, one thread at a time, so that there is one session.
    fn meet(&self, reference: &Reference) -> Result<Peer, ReferenceError> {
        let node = || reference.node.clone();
        let out_of_reach = || ReferenceError::OutOfReach {
            node: node(),
            addresses: reference.addresses.clone(),
        };
        let _one_at_a_time = lock(&self.meeting);
        if let Some(peer) = self.peer_named(&reference.node) {
            return Ok(peer);
        }
        let known = |address: &&String| find_transport(&self.transports, address).is_ok();
        let mut addresses = reference
            .addresses
            .iter()
            .filter(known)
            .cloned()
            .collect::<Vec<_>>();
        addresses.truncate(MAX_ADDRESSES);
        let this = self.strong().ok_or_else(out_of_reach)?;
        if addresses.is_empty() {
            return Err(out_of_reach());
        }
        let peer: Arc<_> = run(connect::connect(this, addresses))
            .map_err(|source| ReferenceError::Connect { node: node(), source })?;
        let peer = Peer(peer);
        if peer.node() != reference.node {
            let found = peer.node().to_owned();
            peer.close(std::time::Duration::ZERO);
            return Err(ReferenceError::AnotherNode { node: node(), found });
        }
        Ok(peer)
    }
}

//! Places: how many peers a node may have, those included whose handshakes are about to succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::connect::ConnectError;
use crate::handshake::{Identity, Refusal};
use crate::node::{NodeError, NodeInner};
use crate::wait::lock;

/// A place that is kept for a peer until it is among the node's peers. Dropped, it is free.
pub(crate) struct Place {
    kept: Arc<AtomicUsize>,
}

/// The places of a node.
pub(crate) struct Places {
    max: usize,
    kept: Arc<AtomicUsize>,
}

/// Why there is no place.
pub(crate) struct NoPlace {
    pub(crate) error: ConnectError,
    /// What a dialer is told.
    pub(crate) refusal: Refusal,
}

impl Places {
    pub(crate) fn new(max: usize) -> Places {
        Places {
            max,
            kept: Arc::default(),
        }
    }

    fn full(&self, refusal: Refusal) -> NoPlace {
        NoPlace {
            error: ConnectError::TooManyPeers { max: self.max },
            refusal,
        }
    }

    /// Whether there is a place for a stranger who says to be this node. Keeps none.
    pub(crate) fn look(node: &NodeInner, stranger: Option<&Identity>) -> Result<(), NoPlace> {
        check_open(node)?;
        let left = stranger.map_or(0, |identity| node.earlier_incarnations(identity).len());
        match lock(&node.peers).len() < node.places.max + left {
            true => Ok(()),
            false => Err(node.places.full(Refusal::Busy)),
        }
    }

    /// Keeps a place for a peer that has proven the secret. Its earlier incarnations, if they have no link, leave theirs.
    pub(crate) fn keep(node: &NodeInner, peer: &Identity) -> Result<Place, NoPlace> {
        node.end_earlier_incarnations(peer);
        // Under the lock, so that no two take the last one.
        let peers = lock(&node.peers);
        check_open(node)?;
        let places = &node.places;
        if peers.len() >= places.max {
            return Err(places.full(Refusal::Busy));
        }
        if peers.len() + places.kept.load(Ordering::Relaxed) >= places.max {
            return Err(places.full(Refusal::Crowded));
        }
        places.kept.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            kept: places.kept.clone(),
        })
    }
}

fn check_open(node: &NodeInner) -> Result<(), NoPlace> {
    match node.closed.load(Ordering::Acquire) {
        false => Ok(()),
        true => Err(NoPlace {
            error: NodeError::Closed.into(),
            refusal: Refusal::Busy,
        }),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // By then its peer is counted, if it came: twice for a moment, never not at all. Release: whoever sees the place free
        // under the lock of the peers takes that after the peer was pushed.
        self.kept.fetch_sub(1, Ordering::Release);
    }
}

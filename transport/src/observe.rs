//! What an operator asks of a running node: its links, rings, credits and mailboxes, as they are at one moment.
//!
//! Everything here is read from counters that the node keeps anyway, so observing costs those who send and receive nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::dead_letter::Reason;
use crate::event::{Event, EventCounts};
use crate::lane::Lane;
use crate::node::{Node, NodeInner};
use crate::peer::PeerInner;
use crate::wait::lock;

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The node's name.
    pub node: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// The peers whose sessions live.
    pub peers: Vec<PeerObservation>,
    /// The mailboxes that are open.
    pub mailboxes: Vec<MailboxObservation>,
    /// The transports, with what each has counted: [`crate::link::Transport::figures`].
    pub transports: Vec<TransportObservation>,
    /// Messages that were not delivered, by reason.
    pub dead_letters: Vec<(Reason, u64)>,
    /// What has happened to sessions, by kind.
    pub events: EventCounts,
}

/// A session at one moment.
#[derive(Clone, Debug)]
pub struct PeerObservation {
    /// The peer's node.
    pub node: String,
    /// What carries the session; `None` while it has no link.
    pub link: Option<String>,
    /// The three lanes, as this side sends on them.
    pub lanes: Vec<LaneObservation>,
    /// The peer's mailboxes that were resolved.
    pub credits: Vec<CreditObservation>,
    /// Messages received from it, in the mailboxes that are open.
    pub received: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
}

/// A lane of a session at one moment.
#[derive(Clone, Debug)]
pub struct LaneObservation {
    /// Which.
    pub lane: Lane,
    /// Capacity of the send ring, in bytes.
    pub capacity: u64,
    /// Bytes sent since the session began.
    pub sent: u64,
    /// Bytes of those that the peer has acknowledged. The difference is what fills the ring.
    pub acknowledged: u64,
    /// Bytes received and consumed, as the peer was last told.
    pub consumed: u64,
}

/// What may be sent to a mailbox of a peer.
#[derive(Clone, Debug)]
pub struct CreditObservation {
    /// The mailbox.
    pub mailbox: String,
    /// Messages sent to it.
    pub sent: u64,
    /// Messages that may be sent without waiting; `None` for a mailbox that drops its oldest.
    pub left: Option<u64>,
}

/// A transport at one moment.
#[derive(Clone, Debug)]
pub struct TransportObservation {
    /// Its scheme.
    pub scheme: &'static str,
    /// Names and numbers of what it has counted.
    pub figures: Vec<(&'static str, u64)>,
}

/// A mailbox at one moment.
#[derive(Clone, Debug)]
pub struct MailboxObservation {
    /// Its name.
    pub name: String,
    /// The protocol that it speaks; `None` for raw bytes.
    pub protocol: Option<Cow<'static, str>>,
    /// Messages that wait.
    pub depth: usize,
    /// How many may, of each sending node.
    pub capacity: u32,
    /// Messages received from peers whose sessions live, and taken of those.
    pub received: u64,
    /// Messages taken, of those.
    pub taken: u64,
    /// Peers that can send to it.
    pub senders: usize,
}

/// Looks at a node from any thread; does not keep it alive.
#[derive(Clone)]
pub struct Observer(Weak<NodeInner>);

impl Node {
    /// Something to look at this node with, from any thread.
    pub fn observer(&self) -> Observer {
        Observer(Arc::downgrade(&self.inner))
    }
}

impl Observer {
    /// The node as it is now; `None` when it is gone.
    pub fn observe(&self) -> Option<Observation> {
        let node = self.0.upgrade()?;
        let peers = lock(&node.peers).clone();
        let mut received = ReceivedByPeer::default();
        let mut mailboxes = node.observe_mailboxes(&mut received);
        let mut peers: Vec<PeerObservation> = peers.iter().map(|peer| peer.observe(&received)).collect();
        peers.sort_by(|a, b| a.node.cmp(&b.node));
        mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Observation {
            node: node.identity.node.clone(),
            uptime: node.now(),
            peers,
            mailboxes,
            transports: node
                .transports
                .iter()
                .map(|transport| TransportObservation {
                    scheme: transport.scheme(),
                    figures: transport.figures(),
                })
                .collect(),
            dead_letters: Reason::ALL
                .into_iter()
                .map(|reason| (reason, node.dead_letters.count_of(reason)))
                .collect(),
            events: node.events.counts(),
        })
    }

    /// The latest events, oldest first, each with how long ago it was: see [`crate::event`].
    pub fn recent_events(&self) -> Vec<(Duration, Event)> {
        self.0.upgrade().map_or(Vec::new(), |node| node.events.recent())
    }

    /// The latest dead letters, oldest first.
    pub fn recent_dead_letters(&self) -> Vec<crate::DeadLetter> {
        self.0
            .upgrade()
            .map_or(Vec::new(), |node| node.dead_letters.latest())
    }
}

/// Messages received over each session, by the address of its structure.
#[derive(Default)]
pub(crate) struct ReceivedByPeer(HashMap<*const PeerInner, u64>);

impl ReceivedByPeer {
    pub(crate) fn add(&mut self, peer: *const PeerInner, messages: u64) {
        *self.0.entry(peer).or_default() += messages;
    }
}

impl PeerInner {
    fn observe(&self, received: &ReceivedByPeer) -> PeerObservation {
        let lanes = Lane::ALL
            .into_iter()
            .map(|lane| {
                let ring = self.send.ring(lane);
                let acknowledged = ring.released();
                LaneObservation {
                    lane,
                    capacity: ring.capacity(),
                    // Read after what is below it, so that the difference is never negative.
                    sent: ring.claimed(),
                    acknowledged,
                    consumed: self.send.acknowledge[lane.index()].load(Ordering::Relaxed),
                }
            })
            .collect();
        PeerObservation {
            node: self.identity.node.clone(),
            link: lock(&self.link).clone(),
            lanes,
            credits: self.observe_credits(),
            received: received.0.get(&std::ptr::from_ref(self)).copied().unwrap_or(0),
            heartbeats: self.heartbeats.load(Ordering::Relaxed),
        }
    }
}

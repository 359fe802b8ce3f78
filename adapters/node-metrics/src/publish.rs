//! A node's figures, handed to whatever recorder of the `metrics` facade is in force.

use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use metrics::{counter, gauge, histogram};
use transport::latency::Latency;
use transport::observe::{Observation, Observer, PeerObservation};
use transport::{Node, lane::Lane};

/// The names of the figures, each with its labels, unit and meaning.
pub mod names {
    /// `node`: seconds since the node started.
    pub const UPTIME: &str = "node_uptime_seconds";
    /// `node`, `peer`, `transport`: 1 while a link of that transport carries the session; with `none`, while none does.
    pub const LINK: &str = "node_link";
    /// `node`, `peer`, `lane`: bytes sent.
    pub const SENT_BYTES: &str = "node_sent_bytes_total";
    /// `node`, `peer`, `lane`: bytes received, as the peer was last told.
    pub const RECEIVED_BYTES: &str = "node_received_bytes_total";
    /// `node`, `peer`, `lane`: what of the send ring is sent and not acknowledged, 0 to 1.
    pub const RING_FILL: &str = "node_ring_fill_ratio";
    /// `node`, `peer`: heartbeats sent.
    pub const HEARTBEATS: &str = "node_heartbeats_total";
    /// `node`, `peer`: messages received from it, in the mailboxes that are open.
    pub const RECEIVED_FROM_PEER: &str = "node_peer_received_messages";
    /// `node`, `peer`, `mailbox`: messages sent to a mailbox of the peer.
    pub const SENT_MESSAGES: &str = "node_sent_messages_total";
    /// `node`, `peer`, `mailbox`: messages that may be sent there without waiting.
    pub const CREDIT: &str = "node_credit_messages";
    /// `node`, `mailbox`, `protocol`: messages that wait in a mailbox of this node.
    pub const DEPTH: &str = "node_mailbox_depth";
    /// `node`, `mailbox`, `protocol`: messages received from peers whose sessions live.
    pub const RECEIVED_MESSAGES: &str = "node_mailbox_received_messages";
    /// `node`, `mailbox`, `protocol`: messages taken, of those.
    pub const TAKEN_MESSAGES: &str = "node_mailbox_taken_messages";
    /// `node`, `mailbox`, `protocol`: seconds from when a message came in until it was taken, of a sample.
    pub const WAITED: &str = "node_mailbox_waited_seconds";
    /// `node`, `transport`, `figure`: what the transport counts below its links. Of rdma: completions, failed completions, and device
    /// events.
    pub const TRANSPORT: &str = "node_transport_total";
    /// `node`, `reason`: messages that were not delivered.
    pub const DEAD_LETTERS: &str = "node_dead_letters_total";
    /// `node`, `event`: what happened to sessions: connected, suspended, resumed, ended, handshake_failed.
    pub const EVENTS: &str = "node_events_total";
}

/// Upper bounds of the buckets of [`names::WAITED`] at the endpoint, in seconds: three to a decade, from a microsecond to 50 s.
pub const WAITED_BUCKETS: [f64; 24] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5,
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0,
];

/// Latency samples that may wait for the next [`Publisher::publish`].
const SAMPLES: usize = 16 << 10;

/// Publishes one node's figures.
pub struct Publisher {
    observer: Observer,
    latencies: Mutex<Receiver<Latency>>,
}

impl Publisher {
    /// For this node. From here on the node times a sample of its messages.
    pub fn new(node: &Node) -> Publisher {
        Publisher {
            observer: node.observer(),
            latencies: Mutex::new(node.latencies(SAMPLES)),
        }
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Hands the node's figures, as they are now, to the recorder in force. Call it before each scrape, or every few seconds.
    /// False when the node is gone.
    pub fn publish(&self) -> bool {
        let Some(seen) = self.observer.observe() else {
            return false;
        };
        let node = seen.node.clone();
        gauge!(names::UPTIME, "node" => node.clone()).set(seen.uptime.as_secs_f64());
        for peer in &seen.peers {
            publish_peer(&node, peer);
        }
        publish_mailboxes(&node, &seen);
        for transport in &seen.transports {
            for (figure, count) in &transport.figures {
                let labels = [
                    ("node", node.clone()),
                    ("transport", transport.scheme.to_owned()),
                    ("figure", (*figure).to_owned()),
                ];
                counter!(names::TRANSPORT, &labels).absolute(*count);
            }
        }
        for (reason, count) in &seen.dead_letters {
            counter!(names::DEAD_LETTERS, "node" => node.clone(), "reason" => reason.to_string())
                .absolute(*count);
        }
        let events = [
            ("connected", seen.events.connected),
            ("suspended", seen.events.suspended),
            ("resumed", seen.events.resumed),
            ("ended", seen.events.ended),
            ("handshake_failed", seen.events.handshakes_failed),
        ];
        for (event, count) in events {
            counter!(names::EVENTS, "node" => node.clone(), "event" => event).absolute(count);
        }
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for sample in latencies.try_iter() {
            let protocol = sample.protocol.unwrap_or("raw bytes".into());
            let labels = [
                ("node", node.clone()),
                ("mailbox", sample.mailbox),
                ("protocol", protocol.into_owned()),
            ];
            histogram!(names::WAITED, &labels).record(sample.waited.as_secs_f64());
        }
        true
    }
}

fn publish_peer(node: &str, peer: &PeerObservation) {
    let labels = |more: Option<(&'static str, String)>| {
        let mut labels = vec![("node", node.to_owned()), ("peer", peer.node.clone())];
        labels.extend(more);
        labels
    };
    // "tcp (…)": what is in the brackets is for people.
    let carried_by = peer.link.as_deref().and_then(|link| link.split(' ').next());
    for transport in ["tcp", "shm", "rdma", "none"] {
        let is = carried_by.unwrap_or("none") == transport;
        gauge!(names::LINK, &labels(Some(("transport", transport.into())))).set(f64::from(u8::from(is)));
    }
    counter!(names::HEARTBEATS, &labels(None)).absolute(peer.heartbeats);
    gauge!(names::RECEIVED_FROM_PEER, &labels(None)).set(peer.received as f64);
    for lane in &peer.lanes {
        let name = match lane.lane {
            Lane::Control => "control",
            Lane::Ordinary => "ordinary",
            Lane::Large => "large",
        };
        let labels = labels(Some(("lane", name.into())));
        counter!(names::SENT_BYTES, &labels).absolute(lane.sent);
        counter!(names::RECEIVED_BYTES, &labels).absolute(lane.consumed);
        let filled = lane.sent.saturating_sub(lane.acknowledged) as f64;
        gauge!(names::RING_FILL, &labels).set(filled / lane.capacity as f64);
    }
    for credit in &peer.credits {
        let labels = labels(Some(("mailbox", credit.mailbox.clone())));
        counter!(names::SENT_MESSAGES, &labels).absolute(credit.sent);
        if let Some(left) = credit.left {
            gauge!(names::CREDIT, &labels).set(left as f64);
        }
    }
}

fn publish_mailboxes(node: &str, seen: &Observation) {
    for mailbox in &seen.mailboxes {
        let protocol = mailbox.protocol.as_deref().unwrap_or("raw bytes");
        let labels = [
            ("node", node.to_owned()),
            ("mailbox", mailbox.name.clone()),
            ("protocol", protocol.to_owned()),
        ];
        gauge!(names::DEPTH, &labels).set(mailbox.depth as f64);
        gauge!(names::RECEIVED_MESSAGES, &labels).set(mailbox.received as f64);
        gauge!(names::TAKEN_MESSAGES, &labels).set(mailbox.taken as f64);
    }
}

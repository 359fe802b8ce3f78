//! A hub with a mailbox, and the nodes that are connected to it.

use transport::{Address, Mailbox, MailboxOptions, Node, NodeBuilder};

/// A hub and its peers.
pub struct Hub {
    /// The hub's mailbox, as each peer knows it.
    pub addresses: Vec<Address>,
    /// The peers.
    pub peers: Vec<Node>,
    /// The hub's mailbox.
    pub inbox: Mailbox,
    /// The hub.
    pub node: Node,
}

impl Hub {
    /// A hub over TCP with so many peers, all made by `node` of their names.
    ///
    /// # Panics
    /// When a node can't be started or connected.
    pub fn with_peers(count: usize, node: impl Fn(&str) -> NodeBuilder) -> Hub {
        let hub = node("hub").listen("tcp://127.0.0.1:0").start().unwrap();
        let inbox = hub.mailbox("inbox", MailboxOptions::default()).unwrap();
        let peers: Vec<Node> = (0..count)
            .map(|index| node(&format!("peer {index}")).start().unwrap())
            .collect();
        let to_inbox = |peer: &Node| {
            let to_hub = peer.connect(&hub.addresses()[0]).unwrap();
            to_hub.address("inbox").unwrap()
        };
        Hub {
            addresses: peers.iter().map(to_inbox).collect(),
            peers,
            inbox,
            node: hub,
        }
    }
}

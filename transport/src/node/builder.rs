//! What a node is made of, and how it starts.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use super::{Drive, Node, NodeError, NodeInner};
use crate::answer::Guests;
use crate::control::MAX_NAME;
use crate::dead_letter::DeadLetters;
use crate::drive::Driver;
use crate::event::Events;
use crate::handshake::{
    CAPABILITY_CHECKSUMS, CAPABILITY_ENDS, CAPABILITY_FORGETTING, CAPABILITY_TRACES, Identity, Secret,
};
use crate::lane::LaneSizes;
use crate::link::Transport;
use crate::place::Places;
use crate::questions::Questions;
use crate::session::Timing;
use crate::surroundings::{Surroundings, Threads};
use crate::sync;
use crate::wait::Wait;

/// What a node is made of.
pub struct NodeBuilder {
    name: String,
    cluster: String,
    secret: Option<Vec<u8>>,
    transports: Vec<Arc<dyn Transport>>,
    listen: Vec<String>,
    sizes: LaneSizes,
    timing: Timing,
    refused_window: Option<Duration>,
    pub(crate) wait: Option<Wait>,
    drive: Drive,
    max_peers: usize,
}

impl NodeBuilder {
    pub(super) fn of(name: &str) -> NodeBuilder {
        NodeBuilder {
            name: name.to_owned(),
            cluster: "default".to_owned(),
            secret: None,
            transports: Vec::new(),
            listen: Vec::new(),
            sizes: LaneSizes::default(),
            timing: Timing::default(),
            refused_window: Some(Duration::from_secs(1)),
            wait: None,
            drive: Drive::default(),
            max_peers: 1024,
        }
    }

    /// The secret that the nodes of the cluster share, at least 16 bytes. Required.
    pub fn secret(mut self, secret: &[u8]) -> Self {
        self.secret = Some(secret.to_vec());
        self
    }

    /// The cluster's name; nodes of different clusters refuse each other. Default `default`.
    pub fn cluster(mut self, name: &str) -> Self {
        self.cluster = name.to_owned();
        self
    }

    /// Adds a transport.
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transports.push(Arc::new(transport));
        self
    }

    /// Listens on an address of one of the transports, `scheme://…`. May be called several times.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen.push(address.to_owned());
        self
    }

    /// Capacities of the rings in which this node receives, for each peer.
    pub fn rings(mut self, sizes: LaneSizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Heartbeats, the failure detector's deadline, the resume window.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// How long the host of a peer that this node has dialled has to refuse connections, where the peer's process listened, until
    /// that process counts as gone and the session ends with [`crate::Ended::Gone`], before its resume window. Default 1 s; 1 ms to 30
    /// days. `None`: such a session waits for the whole resume window.
    ///
    /// Nothing but refusals counts (`ECONNREFUSED`: the host answers, and nobody listens), and those alone that come without a pause
    /// from the very socket in which a link of the session ended, where both ends saw the same connection: not a proxy's, not those of
    /// a router that changes addresses, and neither silence nor a reset. Nor do they while the peer is heard over another session. A
    /// firewall that refuses in the name of a host which is up looks the same: where one may do that for a while, choose a longer time
    /// than that, or `None`.
    pub fn refused_window(mut self, window: Option<Duration>) -> Self {
        self.refused_window = window;
        self
    }

    /// What drives the node does while nothing arrives. Default [`Wait::Adaptive`]; [`Wait::Park`] with `start_on_tokio`.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Who drives the node. Default [`Drive::Thread`].
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drive = drive;
        self
    }

    /// The most peers at one time, those included whose handshakes are about to succeed. Default 1,024.
    pub fn max_peers(mut self, max: NonZeroUsize) -> Self {
        self.max_peers = max.get();
        self
    }

    /// Starts the node: opens its addresses, and its thread if it has one. It starts as a whole or not at all.
    ///
    /// # Errors
    /// No secret; a name, ring sizes or times that are not allowed; an address that none of the transports knows, or on
    /// which its transport can't listen (the port is taken, there is no device); no thread: each a [`NodeError`] with the
    /// figures.
    pub fn start(self) -> Result<Node, NodeError> {
        self.start_in(Arc::new(Threads::new()))
    }

    pub(crate) fn start_in(self, surroundings: Arc<dyn Surroundings>) -> Result<Node, NodeError> {
        check_name("node name", &self.name)?;
        check_name("cluster name", &self.cluster)?;
        if !self.sizes.are_valid() {
            return Err(NodeError::BadRingSizes(self.sizes));
        }
        if !self.timing.is_valid() {
            return Err(NodeError::BadTiming(self.timing));
        }
        let (shortest, longest) = Timing::LIMITS;
        if let Some(window) = self.refused_window
            && !(shortest..=longest).contains(&window)
        {
            return Err(NodeError::BadRefusedWindow { window });
        }
        let secret = self
            .secret
            .as_deref()
            .and_then(Secret::new)
            .ok_or(NodeError::NoSecret)?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &self.listen {
            let (transport, rest) = find_transport(&self.transports, address)?;
            let listener = transport.listen(rest)?;
            addresses.push(format!("{}://{}", transport.scheme(), listener.address()));
            listeners.push((transport.scheme(), listener));
        }
        let incarnation = surroundings
            .random()
            .map(u64::from_le_bytes)
            .map_err(|error| NodeError::Io {
                what: "drawing an incarnation",
                source: std::io::Error::other(error),
            })?;
        let checksums = self
            .transports
            .iter()
            .any(|transport| transport.needs_checksums());
        let (driver, waker) = Driver::new(listeners).map_err(|source| NodeError::Io {
            what: "opening the node's poller",
            source,
        })?;
        let inner = Arc::new_cyclic(|this| NodeInner {
            this: this.clone(),
            wake_driver: OnceLock::new(),
            identity: Identity {
                cluster: self.cluster,
                node: self.name,
                incarnation,
                sizes: self.sizes,
                capabilities: CAPABILITY_TRACES
                    | CAPABILITY_FORGETTING
                    | CAPABILITY_ENDS
                    | if checksums { CAPABILITY_CHECKSUMS } else { 0 },
            },
            secret,
            transports: self.transports,
            timing: self.timing,
            refused_window: self.refused_window,
            wait: self.wait.unwrap_or_default(),
            drive: self.drive,
            places: Places::new(self.max_peers),
            surroundings,
            addresses,
            dead_letters: DeadLetters::default(),
            events: Events::default(),
            latencies: Arc::default(),
            buffers: Arc::default(),
            assembly_pool: Arc::default(),
            peers: Mutex::default(),
            peers_version: AtomicU64::new(1),
            attention: AtomicBool::new(false),
            questions: Questions::default(),
            mailboxes: Mutex::default(),
            meeting: Mutex::default(),
            guests: Guests::default(),
            driver: Mutex::new(driver),
            #[cfg(feature = "tokio")]
            task: OnceLock::new(),
            asleep: sync::atomic::AtomicU64::new(0),
            waker,
            closed: AtomicBool::new(false),
        });
        let thread = match self.drive {
            Drive::Caller => None,
            Drive::Thread => Some(
                thread::Builder::new()
                    // The system takes no NUL there.
                    .name(format!("node {}", inner.identity.node).replace('\0', " "))
                    .spawn({
                        let inner = inner.clone();
                        move || inner.run()
                    })
                    .map_err(|source| NodeError::Io {
                        what: "starting the node's thread",
                        source,
                    })?,
            ),
        };
        Ok(Node { inner, thread })
    }
}

pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), NodeError> {
    if name.is_empty() || name.len() > MAX_NAME {
        Err(NodeError::BadName {
            what,
            len: name.len(),
        })
    } else {
        Ok(())
    }
}

/// The transport for an address, and the address without its scheme.
pub(crate) fn find_transport<'a>(
    transports: &'a [Arc<dyn Transport>],
    address: &'a str,
) -> Result<(&'a Arc<dyn Transport>, &'a str), NodeError> {
    address
        .split_once("://")
        .and_then(|(scheme, rest)| {
            Some((
                transports.iter().find(|transport| transport.scheme() == scheme)?,
                rest,
            ))
        })
        .ok_or_else(|| NodeError::UnknownScheme {
            address: address.to_owned(),
            known: transports
                .iter()
                .map(|transport| transport.scheme())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_window_is_none_or_within_its_limits() {
        let start = |window| {
            let node = Node::builder("a")
                .secret(&[7; Secret::MIN])
                .refused_window(window);
            node.start().map(drop)
        };
        let (shortest, longest) = Timing::LIMITS;
        for window in [None, Some(shortest), Some(longest)] {
            start(window).unwrap();
        }
        for wrong in [Duration::ZERO, shortest / 2, longest + shortest, Duration::MAX] {
            let error = start(Some(wrong)).unwrap_err();
            assert!(
                matches!(error, NodeError::BadRefusedWindow { window } if window == wrong),
                "{error}"
            );
        }
    }
}

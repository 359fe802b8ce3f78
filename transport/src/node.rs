//! A node: listens, dials, keeps sessions over whatever links there are, and owns the mailboxes.

mod builder;
mod driving;
mod error;
mod inner;

pub use builder::NodeBuilder;
pub(crate) use builder::find_transport;
pub use error::NodeError;
pub(crate) use inner::NodeInner;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::buffer::Buffer;
use crate::connect::{self, ConnectError};
use crate::dead_letter::DeadLetters;
use crate::event::Event;
use crate::latency::Latency;
use crate::mailbox::{MAX_CAPACITY, MAX_MESSAGE, Mailbox, MailboxOptions, MailboxShared};
use crate::peer::Peer;
use crate::protocol::Spoken;
use crate::surroundings::run;
use crate::wait::lock;
use crate::watch;
use builder::check_name;

/// Who drives a node: polls its links, hands out what arrives, keeps the deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drive {
    /// A thread of the node's own. For tasks of an async runtime, and for threads that block. The default.
    #[default]
    Thread,
    /// Whichever thread blocks in, or polls, one of the node's operations. For threads that poll for lowest latency.
    /// While nobody does, nothing is received, and peers may take the node for dead.
    Caller,
}

/// A node. Dropping it closes every session without waiting: the peers are told so, and what peers have not acknowledged becomes dead letters
/// that only a subscriber of [`Node::dead_letters`] still sees; see [`Node::shutdown`].
pub struct Node {
    pub(crate) inner: Arc<NodeInner>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts to build a node of this name, which no other node of the cluster has at the same time: peers take another one of
    /// the same name for this one restarted, and give up its sessions that have no link just then.
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder::of(name)
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.inner.identity.node
    }

    /// The addresses that the node listens on, as others dial them.
    pub fn addresses(&self) -> &[String] {
        &self.inner.addresses
    }

    /// A buffer of `len` bytes, up to 1 GiB, to write a message into and to send by [`crate::Address::send_buffer`]. It has what an
    /// earlier message of this node left in it, zeroes at first.
    ///
    /// # Errors
    /// The system's, when it has no memory left; `InvalidInput` for a longer one.
    pub fn buffer(&self, len: usize) -> io::Result<Buffer> {
        self.inner.buffer(len)
    }

    /// Opens a mailbox. Peers reach it by its name.
    ///
    /// # Errors
    /// [`NodeError`]: the bounds are not allowed, or the name is taken.
    pub fn mailbox(&self, name: &str, options: MailboxOptions) -> Result<Mailbox, NodeError> {
        self.open_mailbox(name, options, None)
    }

    pub(crate) fn open_mailbox(
        &self,
        name: &str,
        options: MailboxOptions,
        speaks: Option<Spoken>,
    ) -> Result<Mailbox, NodeError> {
        check_name("mailbox name", name)?;
        if !(1..=MAX_CAPACITY).contains(&options.capacity) {
            return Err(NodeError::BadCapacity {
                capacity: options.capacity,
            });
        }
        if options.max_message > MAX_MESSAGE {
            return Err(NodeError::BadMaxMessage {
                max_message: options.max_message,
            });
        }
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(NodeError::Closed);
        }
        let mut mailboxes = lock(&self.inner.mailboxes);
        if mailboxes.contains_key(name) {
            return Err(NodeError::MailboxExists {
                name: name.to_owned(),
            });
        }
        let shared = Arc::new(MailboxShared::new(
            name.to_owned(),
            options,
            speaks,
            self.inner.latencies.clone(),
            self.inner.this.clone(),
        ));
        mailboxes.insert(name.to_owned(), shared.clone());
        drop(mailboxes);
        Ok(Mailbox::new(shared, self.inner.clone()))
    }

    /// The address of one of this node's own mailboxes; `None` when no mailbox of this name is open. Sending there can fail
    /// as sending to a peer's can, but for the link.
    pub fn address(&self, mailbox: &str) -> Option<Address> {
        self.inner.own_address(mailbox, None).ok()
    }

    /// Connects to the node that listens on `address`. Blocks for the handshake, 10 s at most; where too many dial that node at
    /// once, it is tried again for as long. From then on the node keeps the session: when its link dies, it dials again within
    /// the resume window.
    ///
    /// # Errors
    /// Nobody there, somebody who is no peer (another cluster, another secret, no such protocol version), a link that failed
    /// in the handshake, or as many peers as there may be: [`ConnectError`] says which, and who answered. Later losses of the
    /// link are no errors but [`Node::events`]; the end of the session is in [`Peer::ended`], in what is sent from then on,
    /// and at whoever watches ([`Mailbox::watch_node`]).
    pub fn connect(&self, address: &str) -> Result<Peer, ConnectError> {
        run(connect::connect(self.inner.clone(), vec![address.to_owned()])).map(Peer)
    }

    /// As [`Node::connect`], to a node that listens on several addresses: the first that answers is used, best first.
    /// When a link dies, the session goes on over whichever of them answers, and returns to a better one when there
    /// is one again ([`crate::Timing::better_link`]). `rdma://…` alone requires RDMA, `tcp://…` alone rules it out, and both in
    /// this order prefer it.
    ///
    /// # Errors
    /// [`ConnectError`] of the last address.
    pub fn connect_any(&self, addresses: &[impl AsRef<str>]) -> Result<Peer, ConnectError> {
        run(connect::connect(self.inner.clone(), owned(addresses))).map(Peer)
    }

    /// As [`Node::connect`], as a future that any executor can run; the handshake runs on a thread of its own.
    ///
    /// # Errors
    /// As [`Node::connect`]. Cancelled, the handshake goes on beside the caller, and a session that it makes is closed.
    pub async fn connect_async(&self, address: &str) -> Result<Peer, ConnectError> {
        self.connect_any_async(&[address]).await
    }

    /// As [`Node::connect_any`], as a future: see [`Node::connect_async`].
    ///
    /// # Errors
    /// As [`Node::connect_any`], and cancelled as [`Node::connect_async`] is.
    pub async fn connect_any_async(&self, addresses: &[impl AsRef<str>]) -> Result<Peer, ConnectError> {
        let addresses = owned(addresses);
        connect::connect_async(&self.inner, addresses).await.map(Peer)
    }

    /// The peers whose sessions live: those connected to, and those that connected.
    pub fn peers(&self) -> Vec<Peer> {
        lock(&self.inner.peers).iter().cloned().map(Peer).collect()
    }

    /// The messages that were not delivered.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.inner.dead_letters
    }

    /// What happens to sessions from now on. The channel holds `capacity`; what does not fit is left out, and in the counts
    /// and among the latest of [`Node::observer`] all the same.
    pub fn events(&self, capacity: usize) -> Receiver<Event> {
        self.inner.events.subscribe(capacity)
    }

    /// How long messages wait in their mailboxes from now on, as samples. The channel holds `capacity`; what does not fit is
    /// left out. See [`crate::latency`].
    pub fn latencies(&self, capacity: usize) -> Receiver<Latency> {
        self.inner.latencies.subscribe(capacity)
    }

    /// Drives the node once, if nobody else is: receives, hands out to mailboxes, keeps deadlines. Whether anything
    /// arrived. Never blocks.
    pub fn poll(&self) -> bool {
        let Some(mut driver) = self.inner.try_drive() else {
            return false;
        };
        let arrived = self.inner.pass(&mut driver, &mut None);
        drop(driver);
        self.inner.hand_back();
        arrived
    }

    /// Closes every session in good order, waiting for `timeout` in all at most, then the node. What peers have not taken by
    /// then becomes dead letters, which only a subscriber ([`DeadLetters::subscribe`]) still sees.
    pub fn shutdown(self, timeout: Duration) {
        let deadline = Instant::now().checked_add(timeout);
        for peer in self.peers() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            peer.close(left.unwrap_or(timeout));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let (inner, thread) = (self.inner.clone(), self.thread.take());
        if !watch::is_making_a_notice() {
            close(&inner, thread);
            return;
        }
        // Not under locks of the node: the notice may be its own.
        let closing = thread::Builder::new().name("close a node".into());
        if let Err(error) = closing.spawn(move || close(&inner, thread)) {
            tracing::warn!(%error, "no thread to close a node that was dropped by a notice: it stays");
        }
    }
}

fn owned(addresses: &[impl AsRef<str>]) -> Vec<String> {
    let addresses = addresses.iter();
    addresses.map(|address| address.as_ref().to_owned()).collect()
}

fn close(inner: &NodeInner, thread: Option<JoinHandle<()>>) {
    inner.close();
    if let Some(thread) = thread {
        // The node may be dropped by its own thread, in what a waker owns.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    } else {
        inner.stop_driving();
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name())
            .field("addresses", &self.addresses())
            .finish()
    }
}

//! A node: listens, dials, keeps sessions over whatever links there are, and owns the mailboxes.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::address::{Address, Target};
use crate::answer::Guests;
use crate::buffer::{Buffer, BufferPool};
use crate::connect::{self, ConnectError};
use crate::control::MAX_NAME;
use crate::dead_letter::{DeadLetter, DeadLetters, Reason};
use crate::doze;
use crate::drive::Driver;
use crate::event::{Event, Events};
use crate::handshake::{CAPABILITY_CHECKSUMS, CAPABILITY_FORGETTING, CAPABILITY_TRACES, Identity, Secret};
use crate::lane::LaneSizes;
use crate::latency::{Latencies, Latency};
use crate::link::{Transport, TransportError};
use crate::mailbox::{Direct, MAX_CAPACITY, MAX_MESSAGE, Mailbox, MailboxOptions, MailboxShared};
use crate::observe::{MailboxObservation, ReceivedByPeer};
use crate::peer::{Peer, PeerInner, ResolveError};
use crate::protocol::{self, Asked, Refusal, Spoken};
use crate::questions::{Questions, THIS_NODE};
use crate::session::{Ended, Time, Timing};
use crate::surroundings::{Surroundings, Threads, run};
use crate::sync;
use crate::wait::{Idle, Step, Wait, lock, thread_waker, try_lock};

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

/// What a node is made of.
pub struct NodeBuilder {
    name: String,
    cluster: String,
    secret: Option<Vec<u8>>,
    transports: Vec<Arc<dyn Transport>>,
    listen: Vec<String>,
    sizes: LaneSizes,
    timing: Timing,
    wait: Wait,
    drive: Drive,
    max_peers: usize,
}

/// Why a node could not be started, or a mailbox not opened.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No secret was given.
    #[error(
        "a node needs a secret of at least {} bytes, the same on every node of the cluster: NodeBuilder::secret",
        Secret::MIN
    )]
    NoSecret,
    /// A name is empty or too long.
    #[error("{what} of {len} bytes: 1 to {MAX_NAME} are allowed")]
    BadName {
        /// Which name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The ring sizes are not allowed.
    #[error("ring sizes {0:?}: each must be a power of two from 4 KiB to 1 GiB")]
    BadRingSizes(LaneSizes),
    /// The times are not allowed.
    #[error("times {0:?}: each must be 1 ms to 30 days, and the silence at least twice the heartbeat")]
    BadTiming(Timing),
    /// The mailbox's bounds are not allowed.
    #[error("mailbox capacity {capacity}: 1 to {MAX_CAPACITY} are allowed")]
    BadCapacity {
        /// What was asked for.
        capacity: u32,
    },
    /// The mailbox's longest message is too long.
    #[error("longest message of {max_message} bytes: at most {MAX_MESSAGE} are allowed")]
    BadMaxMessage {
        /// What was asked for.
        max_message: u32,
    },
    /// There is a mailbox of this name already.
    #[error("mailbox {name:?} exists already on this node")]
    MailboxExists {
        /// The name.
        name: String,
    },
    /// The node has been closed.
    #[error("the node is closed")]
    Closed,
    /// The address has no scheme that one of the node's transports knows.
    #[error("address {address:?}: none of the node's transports ({known}) speaks it; write scheme://…")]
    UnknownScheme {
        /// The address.
        address: String,
        /// The schemes of the node's transports.
        known: String,
    },
    /// The transport can't.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl NodeBuilder {
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

    /// What the driving thread does while nothing arrives. Default [`Wait::Adaptive`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Who drives the node. Default [`Drive::Thread`].
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drive = drive;
        self
    }

    /// The most peers at one time. Default 1,024.
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
                    | if checksums { CAPABILITY_CHECKSUMS } else { 0 },
            },
            secret,
            transports: self.transports,
            timing: self.timing,
            wait: self.wait,
            drive: self.drive,
            max_peers: self.max_peers,
            surroundings,
            addresses,
            dead_letters: DeadLetters::default(),
            events: Events::default(),
            latencies: Arc::default(),
            buffers: Arc::default(),
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
                    .name(format!("node {}", inner.identity.node))
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

fn check_name(what: &'static str, name: &str) -> Result<(), NodeError> {
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

/// A node. Dropping it closes every session without waiting, and what peers have not acknowledged becomes dead letters
/// that only a subscriber of [`Node::dead_letters`] still sees; see [`Node::shutdown`].
pub struct Node {
    pub(crate) inner: Arc<NodeInner>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts to build a node of this name.
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder {
            name: name.to_owned(),
            cluster: "default".to_owned(),
            secret: None,
            transports: Vec::new(),
            listen: Vec::new(),
            sizes: LaneSizes::default(),
            timing: Timing::default(),
            wait: Wait::default(),
            drive: Drive::default(),
            max_peers: 1024,
        }
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

    /// Connects to the node that listens on `address`. Blocks for the handshake, 10 s at most. From then on the node
    /// keeps the session: when its link dies, it dials again within the resume window.
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
    /// is one again ([`Timing::better_link`]). `rdma://…` alone requires RDMA, `tcp://…` alone rules it out, and both in
    /// this order prefer it.
    ///
    /// # Errors
    /// [`ConnectError`] of the last address.
    pub fn connect_any(&self, addresses: &[impl AsRef<str>]) -> Result<Peer, ConnectError> {
        let addresses: Vec<String> = addresses
            .iter()
            .map(|address| address.as_ref().to_owned())
            .collect();
        run(connect::connect(self.inner.clone(), addresses)).map(Peer)
    }

    /// As [`Node::connect`], as a future that any executor can run; the handshake runs on a thread of its own.
    ///
    /// # Errors
    /// As [`Node::connect`]. Cancelled, the handshake goes on beside the caller, and may still make a session.
    pub async fn connect_async(&self, address: &str) -> Result<Peer, ConnectError> {
        connect::connect_async(&self.inner, vec![address.to_owned()])
            .await
            .map(Peer)
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
        self.inner
            .try_drive()
            .is_some_and(|mut driver| self.inner.pass(&mut driver, &mut None))
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
        self.inner.close();
        if let Some(thread) = self.thread.take() {
            // The node may be dropped by its own thread, in what a message's handler owns.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        } else if let Some(mut driver) = try_lock(&self.inner.driver) {
            driver.stop();
        }
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

pub(crate) struct NodeInner {
    this: std::sync::Weak<NodeInner>,
    /// Wakes whoever drives the node, where callers do.
    wake_driver: OnceLock<Waker>,
    pub(crate) identity: Identity,
    pub(crate) secret: Secret,
    pub(crate) transports: Vec<Arc<dyn Transport>>,
    timing: Timing,
    pub(crate) wait: Wait,
    drive: Drive,
    pub(crate) max_peers: usize,
    pub(crate) surroundings: Arc<dyn Surroundings>,
    addresses: Vec<String>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) events: Events,
    pub(crate) latencies: Arc<Latencies>,
    buffers: Arc<BufferPool>,
    pub(crate) peers: Mutex<Vec<Arc<PeerInner>>>,
    pub(crate) peers_version: AtomicU64,
    /// Something happened to a peer that its link does not tell of: see [`NodeInner::attend`].
    pub(crate) attention: AtomicBool,
    pub(crate) questions: Questions,
    mailboxes: Mutex<HashMap<String, Arc<MailboxShared>>>,
    /// Held by the thread that connects to the node of a reference.
    pub(crate) meeting: Mutex<()>,
    /// Peers that dialled and have not finished their handshake.
    pub(crate) guests: Guests,
    pub(crate) driver: Mutex<Driver>,
    /// The task that drives the node, where one does.
    #[cfg(feature = "tokio")]
    pub(crate) task: OnceLock<crate::on_tokio::DrivingTask>,
    /// The driving thread sleeps, or is about to.
    pub(crate) asleep: sync::atomic::AtomicU64,
    waker: Arc<mio::Waker>,
    pub(crate) closed: AtomicBool,
}

struct WakeDriver(std::sync::Weak<NodeInner>);

impl Wake for WakeDriver {
    fn wake(self: Arc<Self>) {
        if let Some(node) = self.0.upgrade() {
            node.wake();
        }
    }
}

impl NodeInner {
    pub(crate) fn now(&self) -> Time {
        self.surroundings.now()
    }

    pub(crate) fn buffer(&self, len: usize) -> io::Result<Buffer> {
        self.buffers.take(len)
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// The addresses that the node listens on.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn strong(&self) -> Option<Arc<NodeInner>> {
        self.this.upgrade()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn weak(&self) -> std::sync::Weak<NodeInner> {
        self.this.clone()
    }

    pub(crate) fn find_mailbox(&self, name: &str) -> Option<Arc<MailboxShared>> {
        lock(&self.mailboxes).get(name).cloned()
    }

    /// The address of one of this node's own mailboxes, for somebody who will speak what is asked for.
    pub(crate) fn own_address(&self, mailbox: &str, asked: Option<&Asked>) -> Result<Address, ResolveError> {
        let refused = |refusal| ResolveError::refused(&self.identity.node, mailbox, asked, refusal);
        let (Some(shared), Some(this)) = (self.find_mailbox(mailbox), self.strong()) else {
            return Err(refused(Refusal::NoSuchMailbox));
        };
        protocol::admit(shared.speaks.as_ref(), asked).map_err(refused)?;
        Ok(Address {
            target: Target::Local(shared, this),
        })
    }

    /// An answer, from a peer or from this node itself: to whoever waits for it, or a dead letter.
    pub(crate) fn take_answer(&self, from: Option<&PeerInner>, number: u64, answer: &[u8]) {
        let session = from.map_or(THIS_NODE, |peer| peer.session_id);
        if !self.questions.answer(number, session, answer) {
            self.dead_letters.report(DeadLetter {
                from: from.map(|peer| peer.identity.node.clone()),
                age: Some(Duration::ZERO),
                correlation: Some(number),
                ..DeadLetter::new(Reason::AnswerTooLate, "answers", answer.len())
            });
        }
    }

    pub(crate) fn observe_mailboxes(&self, received: &mut ReceivedByPeer) -> Vec<MailboxObservation> {
        lock(&self.mailboxes)
            .values()
            .map(|mailbox| mailbox.observe(received))
            .collect()
    }

    pub(crate) fn forget_mailbox(&self, mailbox: &Arc<MailboxShared>) {
        let mut mailboxes = lock(&self.mailboxes);
        if mailboxes
            .get(&mailbox.name)
            .is_some_and(|known| Arc::ptr_eq(known, mailbox))
        {
            mailboxes.remove(&mailbox.name);
        }
    }

    pub(crate) fn add_peer(&self, peer: Arc<PeerInner>) {
        let link = Peer(peer.clone()).link().unwrap_or_default();
        let node = peer.identity.node.clone();
        let added = peer.clone();
        lock(&self.peers).push(peer);
        self.peers_version.fetch_add(1, Ordering::Release);
        self.events.tell(Event::Connected { node, link });
        added.greet();
        self.wake();
    }

    pub(crate) fn forget_peer(&self, peer: &Arc<PeerInner>) {
        lock(&self.peers).retain(|known| !Arc::ptr_eq(known, peer));
        self.peers_version.fetch_add(1, Ordering::Release);
    }

    /// Ends sessions without a link whose peer has been restarted since: it says so itself.
    pub(crate) fn end_earlier_incarnations(&self, identity: &Identity) {
        let earlier: Vec<Arc<PeerInner>> = lock(&self.peers)
            .iter()
            .filter(|peer| {
                peer.identity.node == identity.node
                    && peer.identity.incarnation != identity.incarnation
                    && !peer.has_link()
            })
            .cloned()
            .collect();
        for peer in earlier {
            let mut receive = peer.receive_side();
            peer.end(&mut receive, Ended::Forgotten);
        }
    }

    // Driving.

    /// The right to drive, if nobody has it.
    pub(crate) fn try_drive(&self) -> Option<MutexGuard<'_, Driver>> {
        if self.drive == Drive::Thread {
            None
        } else {
            try_lock(&self.driver)
        }
    }

    pub(crate) fn pass(&self, driver: &mut Driver, direct: &mut Option<Direct<'_>>) -> bool {
        driver.pass(self, direct)
    }

    /// One pass with a look at the clock and at the listeners, for a simulated node.
    #[cfg(feature = "sim")]
    pub(crate) fn step(&self) {
        if let Some(mut driver) = self.try_drive() {
            driver.step(self);
        }
    }

    fn run(&self) {
        let mut driver = lock(&self.driver);
        let mut idle = Idle::new(self.wait);
        while !self.closed.load(Ordering::Acquire) {
            if driver.pass(self, &mut None) {
                idle.reset();
            } else if idle.step() == Step::Sleep {
                self.sleep(&mut driver, None);
            }
        }
        driver.stop();
    }

    /// Sleeps until something arrives, a deadline comes, or [`NodeInner::wake`] is called.
    fn sleep(&self, driver: &mut Driver, until: Option<Instant>) {
        doze::announce(&self.asleep);
        driver.sleep(self, until);
        doze::withdraw(&self.asleep);
    }

    /// Makes the driver look at every peer once, also at those that have been quiet: something happened that no link
    /// tells of.
    pub(crate) fn attend(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Wakes the driving thread or task if it sleeps.
    pub(crate) fn wake(&self) {
        if doze::must_wake(&self.asleep) {
            let _ = self.waker.wake();
        }
        #[cfg(feature = "tokio")]
        if let Some(task) = self.task.get() {
            task.call();
        }
    }

    /// Waits until `attempt` is ready, or the deadline; drives the node where it has no thread of its own.
    pub(crate) fn wait_for<T>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        /// How long a thread sleeps while another one drives: nothing tells it when that one stops.
        const OTHER_DRIVES: Duration = Duration::from_micros(200);
        let waker = match self.drive {
            Drive::Caller => self
                .wake_driver
                .get_or_init(|| Waker::from(Arc::new(WakeDriver(self.this.clone()))))
                .clone(),
            _ => thread_waker(),
        };
        let mut idle = Idle::new(self.wait);
        let passed = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        loop {
            if let Poll::Ready(value) = attempt(&waker) {
                return Some(value);
            }
            // Also under traffic that is not what is waited for.
            if passed() {
                return None;
            }
            match self.try_drive() {
                Some(mut driver) => {
                    if driver.pass(self, &mut None) {
                        idle.reset();
                        continue;
                    }
                    if idle.step() == Step::Sleep {
                        if passed() {
                            return None;
                        }
                        // Announced first, then looked once more: a change in between wakes the sleep below.
                        doze::announce(&self.asleep);
                        if let Poll::Ready(value) = attempt(&waker) {
                            doze::withdraw(&self.asleep);
                            return Some(value);
                        }
                        self.sleep(&mut driver, deadline);
                    }
                }
                None => {
                    if passed() {
                        return None;
                    }
                    let longest = if self.drive == Drive::Caller {
                        OTHER_DRIVES
                    } else {
                        Duration::from_secs(3600)
                    };
                    let left = deadline.map_or(longest, |deadline| {
                        deadline.saturating_duration_since(Instant::now())
                    });
                    thread::park_timeout(left.min(longest));
                }
            }
            if self.wait == Wait::Spin && passed() {
                return None;
            }
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.waker.wake();
        for mailbox in lock(&self.mailboxes).values() {
            mailbox.close();
        }
        let peers = std::mem::take(&mut *lock(&self.peers));
        for peer in peers {
            peer.push_postponed();
            let mut receive = peer.receive_side();
            peer.end(&mut receive, Ended::Closed);
        }
    }
}

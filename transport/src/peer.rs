//! A peer: the node at the other end of a session, the session's rings, and the link that carries them just now.
//!
//! Any thread commits into the send rings; whoever commits pushes, unless somebody else is pushing already. The thread
//! that drives the node receives. Locks are taken in the order receive, gate, everything else; none is held while
//! code of others runs, but for the lending of messages to a mailbox's poll.

mod acknowledging;
mod ages;
mod ending;
pub(crate) mod gate;
mod granting;
mod handles;
mod openings;
pub(crate) mod postponed;
mod pushing;
mod receiving;
mod relinking;
mod routes;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::assembly::Assembler;
use crate::dead_letter::DeadLetter;
use crate::frame::Integrity;
use crate::handshake::Identity;
use crate::lane::{LANES, Lane};
use crate::large::LargeLane;
use crate::link::{Doorbell, Link, LinkError, LinkMemory, LinkSender, ReceiveLanes, SendLanes};
use crate::node::NodeInner;
use crate::protocol::Asked;
use crate::session::{Ended, Phase, Session};
use crate::wait::{WaitList, lock};
use crate::watch::Watchers;

use acknowledging::Acknowledged;
use ending::Collected;
use gate::Gate;
pub(crate) use handles::Handles;
use openings::Openings;
use postponed::Postponed;
pub(crate) use receiving::Receive;
pub(crate) use relinking::Suspension;
pub use routes::ResolveError;
use routes::{Asking, Routes};

/// A node at the other end of a session.
#[derive(Clone)]
pub struct Peer(pub(crate) Arc<PeerInner>);

impl Peer {
    /// The peer's node name.
    pub fn node(&self) -> &str {
        &self.0.identity.node
    }

    /// The incarnation of the peer's node: another one after each restart.
    pub fn incarnation(&self) -> u64 {
        self.0.identity.incarnation
    }

    /// What carries the session now, for people; `None` while it has no link.
    pub fn link(&self) -> Option<String> {
        lock(&self.0.link).clone()
    }

    /// Why the session is over; `None` while it is not.
    pub fn ended(&self) -> Option<Ended> {
        self.0.ended()
    }

    /// The address of one of the peer's mailboxes. Asks the peer the first time; blocks for 10 s at most.
    ///
    /// # Errors
    /// No mailbox of this name, a name that can't be one, no handle left, the session over, or no answer within the 10 s
    /// (try again: nothing was changed): [`ResolveError`] says which.
    pub fn address(&self, mailbox: &str) -> Result<Address, ResolveError> {
        self.address_speaking(mailbox, None)
    }

    /// As [`Peer::address`], as a future that any executor can run; waits as long as the session lives.
    ///
    /// # Errors
    /// As [`Peer::address`], but for the time.
    pub async fn address_async(&self, mailbox: &str) -> Result<Address, ResolveError> {
        self.address_speaking_async(mailbox, None).await
    }

    pub(crate) fn address_speaking(
        &self,
        mailbox: &str,
        protocol: Option<Asked>,
    ) -> Result<Address, ResolveError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut asking = Asking::new(&self.0, mailbox, protocol);
        let deadline = Instant::now() + PATIENCE;
        let resolved = self.0.node.wait_for(Some(deadline), |waker| asking.poll(waker));
        resolved.unwrap_or(Err(ResolveError::TimedOut(PATIENCE)))
    }

    pub(crate) async fn address_speaking_async(
        &self,
        mailbox: &str,
        protocol: Option<Asked>,
    ) -> Result<Address, ResolveError> {
        let mut asking = Asking::new(&self.0, mailbox, protocol);
        std::future::poll_fn(|context| asking.poll(context.waker())).await
    }

    /// Ends the session in good order: what was sent before is delivered first, for `timeout` at most. What is not
    /// acknowledged by then becomes dead letters.
    pub fn close(&self, timeout: Duration) {
        self.0.close(timeout);
    }

    /// Cuts the link without a word, as a broken cable does; for tests and drills. The session goes on over the next.
    pub fn cut_link(&self) {
        self.0
            .fail_link(LinkError::Io(std::io::Error::other("cut on request")));
    }
}

/// Whether they are the same session.
impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("node", &self.node())
            .field("link", &self.link())
            .finish()
    }
}

pub(crate) struct PeerInner {
    pub(crate) node: Arc<NodeInner>,
    pub(crate) identity: Identity,
    pub(crate) session_id: u128,
    /// Where to dial again when the link is lost, best first; empty when the peer dialled.
    pub(crate) dialled: Vec<String>,
    /// Of each of those addresses, where the peer's own process was found to listen.
    listens_at: Mutex<Vec<Option<String>>>,
    /// Which of those addresses the link was dialled at.
    pub(crate) dialled_at: AtomicUsize,
    /// The session has its keeper.
    pub(crate) keeping: AtomicBool,
    /// For the keeper: the link was lost or proven, or the session is over.
    pub(crate) link_changed: WaitList,
    pub(crate) memory: LinkMemory,
    pub(crate) send: SendLanes,
    pub(crate) receive: Mutex<Receive>,
    pub(crate) room: WaitList,
    pub(crate) large: LargeLane,
    gate: Gate<Box<dyn LinkSender>>,
    /// The last push could not finish.
    blocked: AtomicBool,
    /// How often streams have written since something last arrived: see [`PeerInner::flush_soon`].
    written: AtomicU32,
    /// In the list of the task that drives the node.
    postponed: Postponed,
    /// Something waits for the next push, whoever makes it: see [`PeerInner::leave_to_next_push`].
    rides_along: AtomicBool,
    doorbell: OnceLock<Arc<dyn Doorbell>>,
    /// A thread that is not the driver wants the receive lock.
    wanted: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<LinkError>>,
    heard: AtomicBool,
    life: Mutex<Session>,
    pub(crate) link: Mutex<Option<String>>,
    links: AtomicU64,
    ended: OnceLock<Ended>,
    collected: Mutex<Collected>,
    pub(crate) watchers: Watchers,
    /// How many were sent.
    pub(crate) heartbeats: AtomicU64,
    ages: Mutex<[ages::Ages; LANES]>,
    next_request: AtomicU32,
    routes: Mutex<Routes>,
    backlog: Mutex<pushing::Backlog>,
    backlogged: AtomicBool,
    /// A control message found no place to wait: the session ends.
    overwhelmed: AtomicBool,
    goodbye_acknowledged: AtomicBool,
    closing: WaitList,
    /// Streams that this node asked the peer for, by correlation id.
    openings: Mutex<Openings>,
}

/// What a new session starts from.
pub(crate) struct NewSession {
    pub(crate) identity: Identity,
    pub(crate) session_id: u128,
    pub(crate) integrity: Integrity,
    pub(crate) dialled: Vec<String>,
    pub(crate) dialled_at: usize,
    pub(crate) memory: LinkMemory,
    pub(crate) cells: Option<crate::link::LaneMemory>,
    pub(crate) scheme: &'static str,
    pub(crate) link: Link,
}

impl PeerInner {
    pub(crate) fn new(node: Arc<NodeInner>, new: NewSession) -> Arc<PeerInner> {
        let NewSession {
            identity,
            session_id,
            integrity,
            dialled,
            dialled_at,
            memory,
            cells,
            scheme,
            link,
        } = new;
        // Where both ends map the rings, a frame is whole when its first word is there.
        let integrity = if cells.is_some() {
            Integrity::None
        } else {
            integrity
        };
        let send = SendLanes::new(
            crate::link::SendMemory {
                rings: memory.send.clone(),
                cells,
            },
            integrity.clone(),
        );
        let mut lanes = ReceiveLanes::new(memory.receive.clone(), integrity, link.arrival);
        if let Some(cells) = link.cells {
            lanes.tell_in(cells);
        }
        let allowance = lanes.rings[Lane::Large.index()].capacity();
        let assembler = Assembler::new(allowance, node.assembly_pool.clone());
        let large = LargeLane::new(send.ring(Lane::Large));
        send.ring(Lane::Large).lend(link.sender.gathers());
        let doorbell = OnceLock::new();
        if let Some(bell) = link.doorbell {
            let _ = doorbell.set(bell);
        }
        let life = Session::connected(node.timing(), node.now());
        let life = match doorbell.get() {
            Some(_) => life.of_this_link_only(),
            None => life,
        };
        Arc::new(PeerInner {
            identity,
            session_id,
            listens_at: Mutex::new(vec![None; dialled.len()]),
            dialled,
            dialled_at: AtomicUsize::new(dialled_at),
            keeping: AtomicBool::new(false),
            link_changed: WaitList::default(),
            memory,
            send,
            receive: Mutex::new(Receive {
                lanes,
                #[cfg(feature = "tokio")]
                told: None,
                link: Some(link.receiver),
                handles: Handles::default(),
                assembler,
                tell_large: false,
                heartbeat: false,
                closings: Vec::new(),
                left_over: false,
                acknowledged: Acknowledged::default(),
                credited: [0; LANES],
                leaving: false,
                suspensions: 0,
            }),
            room: WaitList::default(),
            large,
            gate: Gate::new(Some(link.sender)),
            blocked: AtomicBool::new(false),
            written: AtomicU32::new(0),
            postponed: Postponed::default(),
            rides_along: AtomicBool::new(false),
            doorbell,
            wanted: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            heard: AtomicBool::new(false),
            life: Mutex::new(life),
            link: Mutex::new(Some(format!("{scheme} ({})", link.description))),
            links: AtomicU64::new(1),
            ended: OnceLock::new(),
            collected: Mutex::default(),
            watchers: Watchers::default(),
            heartbeats: AtomicU64::new(0),
            ages: Mutex::default(),
            next_request: AtomicU32::new(1),
            routes: Mutex::default(),
            backlog: Mutex::default(),
            backlogged: AtomicBool::new(false),
            overwhelmed: AtomicBool::new(false),
            goodbye_acknowledged: AtomicBool::new(false),
            closing: WaitList::default(),
            openings: Mutex::default(),
            node,
        })
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().cloned()
    }

    /// Whether the rings are shared with the peer's process, so that no other link can carry them.
    pub(crate) fn is_shared(&self) -> bool {
        self.doorbell.get().is_some()
    }

    /// Whether the peer has been heard over the present link.
    pub(crate) fn is_proven(&self) -> bool {
        match lock(&self.life).phase() {
            Phase::Connected => true,
            // Heard since the last tick.
            Phase::Trying { .. } => self.heard.load(Ordering::Relaxed),
            Phase::Suspended { .. } | Phase::Ended(_) => false,
        }
    }

    /// Whether there is a link, proven or not.
    pub(crate) fn has_link(&self) -> bool {
        matches!(lock(&self.life).phase(), Phase::Connected | Phase::Trying { .. })
    }

    /// Counts the session's links: the number of the present or last one.
    pub(crate) fn link_number(&self) -> u64 {
        self.links.load(Ordering::Acquire)
    }

    /// Whether the link of this number still carries the session.
    pub(crate) fn is_on_link(&self, number: u64) -> bool {
        self.has_link() && self.link_number() == number
    }

    pub(crate) fn report(&self, letter: DeadLetter) {
        self.node.dead_letters.report(letter);
    }

    pub(crate) fn weak(self: &Arc<Self>) -> Weak<PeerInner> {
        Arc::downgrade(self)
    }
}

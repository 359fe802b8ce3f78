//! A peer: the node at the other end of a session, the session's rings, and the link that carries them just now.
//!
//! Any thread commits into the send rings; whoever commits pushes, unless somebody else is pushing already. The thread
//! that drives the node receives. Locks are taken in the order receive, gate, everything else; none is held while
//! code of others runs, but for the lending of messages to a mailbox's poll.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::address::{Address, Route, Target, Terms};
use crate::codec::Reader;
use crate::control::{Control, MAX_NAME};
use crate::dead_letter::{DeadLetter, Reason};
use crate::drive::Sleep;
use crate::event::Event;
use crate::frame::{Integrity, Kind};
use crate::handshake::Identity;
use crate::lane::{LANES, Lane};
use crate::link::{
    Doorbell, Link, LinkError, LinkMemory, LinkReceiver, LinkSender, Push, ReceiveLanes, SendLanes,
};
use crate::mailbox::Port;
use crate::node::NodeInner;
use crate::ring::Position;
use crate::session::{Action, Ended, Phase, Session, Time};
use crate::wait::{WaitList, lock, try_lock};

/// A node at the other end of a session.
#[derive(Clone)]
pub struct Peer(pub(crate) Arc<PeerInner>);

/// Why a mailbox of a peer could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The peer has no mailbox of this name now.
    #[error("node {node} has no mailbox {mailbox:?}")]
    NoSuchMailbox {
        /// The peer.
        node: String,
        /// The name asked for.
        mailbox: String,
    },
    /// The name is empty or longer than [`MAX_NAME`] bytes.
    #[error("mailbox name of {len} bytes: 1 to {MAX_NAME} are allowed")]
    BadName {
        /// Its length in bytes.
        len: usize,
    },
    /// The session is over: connect again.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The peer did not answer in time.
    #[error("the peer did not answer within {0:?}")]
    TimedOut(Duration),
}

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
    /// [`ResolveError`].
    pub fn address(&self, mailbox: &str) -> Result<Address, ResolveError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut asked = None;
        let deadline = Instant::now() + PATIENCE;
        let resolved = self
            .0
            .node
            .wait_for(Some(deadline), |waker| self.0.resolve(mailbox, &mut asked, waker));
        resolved.unwrap_or(Err(ResolveError::TimedOut(PATIENCE)))
    }

    /// As [`Peer::address`], as a future that any executor can run; waits as long as the session lives.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn address_async(&self, mailbox: &str) -> Result<Address, ResolveError> {
        let mut asked = None;
        std::future::poll_fn(|context| self.0.resolve(mailbox, &mut asked, context.waker())).await
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

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("node", &self.node())
            .field("link", &self.link())
            .finish()
    }
}

/// What the driving thread owns of a session.
pub(crate) struct Receive {
    pub(crate) lanes: ReceiveLanes,
    pub(crate) link: Option<Box<dyn LinkReceiver>>,
    /// Counts the links that this session has had.
    pub(crate) generation: u64,
    pub(crate) ports: Vec<Arc<Port>>,
    acknowledged: [Position; LANES],
    /// What the peer has acknowledged, as far as it has been taken over.
    credited: [Position; LANES],
    /// The peer has said goodbye: it waits for acknowledgements, and its link may go at any time.
    leaving: bool,
    /// Counts the suspensions: only the latest may be resumed.
    suspensions: u64,
}

/// A session without a link: what the peer may be told, and what makes sure that it is still true at the resumption.
pub(crate) struct Suspension {
    number: u64,
    /// Consumed of the peer's rings, by lane.
    pub(crate) consumed: [Position; LANES],
}

enum Resolving {
    Asked(Waker),
    Answered(Option<Arc<Route>>),
}

#[derive(Default)]
struct Routes {
    by_name: HashMap<String, Arc<Route>>,
    by_handle: HashMap<u32, Arc<Route>>,
    resolving: HashMap<u32, (String, Resolving)>,
}

/// Control messages that may wait for room at once. They only do while the peer is stuck or the link is gone.
const MAX_BACKLOG: usize = 64 << 10;

pub(crate) struct PeerInner {
    pub(crate) node: Arc<NodeInner>,
    pub(crate) identity: Identity,
    pub(crate) session_id: u128,
    /// Where to dial again when the link is lost, best first; empty when the peer dialled.
    pub(crate) dialled: Vec<String>,
    /// Which of those addresses the link was dialled at.
    pub(crate) dialled_at: AtomicUsize,
    /// A thread looks for a better link.
    pub(crate) looking: AtomicBool,
    /// Held by the thread that dials for this session.
    pub(crate) dialling: Mutex<()>,
    pub(crate) memory: LinkMemory,
    pub(crate) send: SendLanes,
    pub(crate) receive: Mutex<Receive>,
    pub(crate) room: WaitList,
    gate: Mutex<Option<Box<dyn LinkSender>>>,
    /// Something was committed since the last push began.
    dirty: AtomicBool,
    /// The last push could not finish.
    blocked: AtomicBool,
    doorbell: OnceLock<Arc<dyn Doorbell>>,
    /// A thread that is not the driver wants the receive lock.
    wanted: AtomicBool,
    failed: AtomicBool,
    failure: Mutex<Option<LinkError>>,
    heard: AtomicBool,
    life: Mutex<Session>,
    link: Mutex<Option<String>>,
    ended: OnceLock<Ended>,
    collected: Mutex<[Position; LANES]>,
    next_request: AtomicU32,
    routes: Mutex<Routes>,
    backlog: Mutex<VecDeque<Vec<u8>>>,
    backlogged: AtomicBool,
    goodbye_acknowledged: AtomicBool,
    closing: WaitList,
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

/// Frames handled in one go before other peers have their turn.
const FRAMES_PER_TURN: usize = 512;

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
            integrity,
        );
        let lanes = ReceiveLanes::new(memory.receive.clone(), integrity, link.arrival);
        let doorbell = OnceLock::new();
        if let Some(bell) = link.doorbell {
            let _ = doorbell.set(bell);
        }
        let life = Session::connected(node.timing(), node.now());
        Arc::new(PeerInner {
            identity,
            session_id,
            dialled,
            dialled_at: AtomicUsize::new(dialled_at),
            looking: AtomicBool::new(false),
            dialling: Mutex::new(()),
            memory,
            send,
            receive: Mutex::new(Receive {
                lanes,
                link: Some(link.receiver),
                generation: 1,
                ports: Vec::new(),
                acknowledged: [0; LANES],
                credited: [0; LANES],
                leaving: false,
                suspensions: 0,
            }),
            room: WaitList::default(),
            gate: Mutex::new(Some(link.sender)),
            dirty: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            doorbell,
            wanted: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            heard: AtomicBool::new(false),
            life: Mutex::new(life),
            link: Mutex::new(Some(format!("{scheme} ({})", link.description))),
            ended: OnceLock::new(),
            collected: Mutex::new([0; LANES]),
            next_request: AtomicU32::new(1),
            routes: Mutex::default(),
            backlog: Mutex::default(),
            backlogged: AtomicBool::new(false),
            goodbye_acknowledged: AtomicBool::new(false),
            closing: WaitList::default(),
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

    pub(crate) fn is_connected(&self) -> bool {
        *lock(&self.life).phase() == Phase::Connected
    }

    pub(crate) fn report(&self, letter: DeadLetter) {
        self.node.dead_letters.report(letter);
    }

    // Sending.

    /// Lets the link know that something was committed: the end of every send.
    #[inline]
    pub(crate) fn flush(&self) {
        match self.doorbell.get() {
            Some(bell) => bell.ring(),
            None => self.push(),
        }
        // Ordered after the commit by the fence in the bell, or by the exchange in `push`.
        if self.ended.get().is_some() {
            self.collect_unacknowledged();
        }
    }

    /// Pushes what was committed, unless another thread is pushing: then that thread takes it along.
    pub(crate) fn push(&self) {
        self.dirty.swap(true, Ordering::SeqCst);
        // Whoever finds the gate open looks at `dirty` again after it has closed it, so nothing stays behind.
        while self.dirty.load(Ordering::SeqCst) {
            let Some(mut gate) = try_lock(&self.gate) else {
                return;
            };
            while self.dirty.swap(false, Ordering::SeqCst) {
                let Some(sender) = gate.as_mut() else { continue };
                match sender.push(&self.send) {
                    Ok(Push::Done) => self.blocked.store(false, Ordering::Relaxed),
                    Ok(Push::Blocked) => {
                        if !self.blocked.swap(true, Ordering::Relaxed) {
                            self.node.wake();
                        }
                    }
                    Err(error) => {
                        *gate = None;
                        drop(gate);
                        self.fail_link(error);
                        return;
                    }
                }
            }
        }
    }

    pub(crate) fn fail_link(&self, error: LinkError) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.node.wake();
    }

    pub(crate) fn send_control(&self, control: &Control) {
        let bytes = control.encode();
        let mut backlog = lock(&self.backlog);
        if backlog.is_empty() && self.commit_control(&bytes) {
            drop(backlog);
            self.flush();
            return;
        }
        if backlog.len() < MAX_BACKLOG {
            backlog.push_back(bytes);
            self.backlogged.store(true, Ordering::Release);
        } else {
            drop(backlog);
            self.fail_link(LinkError::Protocol(
                "the peer does not take control messages".into(),
            ));
        }
    }

    fn commit_control(&self, bytes: &[u8]) -> bool {
        let Ok(mut claim) = self.send.ring(Lane::Control).claim(bytes.len()) else {
            return false;
        };
        claim.body().copy_from_slice(bytes);
        claim.commit(Kind::Control, 0, 0, 0);
        true
    }

    fn work_off_backlog(&self) {
        let mut backlog = lock(&self.backlog);
        let mut sent = false;
        while let Some(bytes) = backlog.front() {
            if !self.commit_control(bytes) {
                break;
            }
            sent = true;
            backlog.pop_front();
        }
        self.backlogged.store(!backlog.is_empty(), Ordering::Release);
        drop(backlog);
        if sent {
            self.flush();
        }
    }

    // Receiving: called by the driving thread.

    /// Takes the receive side for a thread that is not the driver.
    pub(crate) fn receive_side(&self) -> MutexGuard<'_, Receive> {
        self.wanted.store(true, Ordering::Release);
        let guard = lock(&self.receive);
        self.wanted.store(false, Ordering::Release);
        guard
    }

    /// One turn: moves what arrived, hands it out, returns credit. Whether anything moved.
    pub(crate) fn turn(self: &Arc<Self>, direct: &mut Option<crate::mailbox::Direct<'_>>) -> bool {
        if self.wanted.load(Ordering::Acquire) {
            std::thread::yield_now();
            return false;
        }
        let Some(mut receive) = try_lock(&self.receive) else {
            return false;
        };
        if self.failed.load(Ordering::Acquire) {
            self.lose_link(&mut receive);
            return true;
        }
        let Receive { lanes, link, .. } = &mut *receive;
        let Some(link) = link else { return false };
        let moved = match link.poll(lanes) {
            Ok(moved) => moved,
            Err(error) => {
                // What arrived before the link died still counts.
                let _ = crate::dispatch::hand_out(self, &mut receive, direct, usize::MAX);
                self.fail_link(error);
                self.lose_link(&mut receive);
                return true;
            }
        };
        if self.blocked.load(Ordering::Relaxed) || self.dirty.load(Ordering::Relaxed) {
            self.push();
        }
        if self.backlogged.load(Ordering::Relaxed) {
            self.work_off_backlog();
        }
        let waiting = |receive: &Receive| receive.lanes.rings.iter().any(|ring| !ring.is_empty());
        if !moved && !waiting(&receive) {
            return false;
        }
        let handed = self
            .take_credit(&mut receive)
            .and_then(|()| crate::dispatch::hand_out(self, &mut receive, direct, FRAMES_PER_TURN));
        if let Err(violation) = handed {
            self.end(&mut receive, Ended::Violation(violation));
            return true;
        }
        if handed == Ok(true) {
            self.heard.store(true, Ordering::Relaxed);
        }
        let due = receive.leaving;
        self.acknowledge(&mut receive, due);
        // A part of a frame is progress too: the rest may be there already, and nothing would tell of it again.
        moved || handed == Ok(true)
    }

    /// Arms the link for a sleep of the driver.
    pub(crate) fn prepare_to_sleep(&self) -> Sleep {
        let Some(mut receive) = try_lock(&self.receive) else {
            return Sleep::Light;
        };
        if self.failed.load(Ordering::Acquire) || self.dirty.load(Ordering::Acquire) {
            return Sleep::No;
        }
        let Receive { lanes, link, .. } = &mut *receive;
        let Some(link) = link else { return Sleep::Sound };
        match link.arm(lanes) {
            Ok(true) if self.blocked.load(Ordering::Relaxed) || self.backlogged.load(Ordering::Relaxed) => {
                Sleep::Light
            }
            Ok(true) => Sleep::Sound,
            Ok(false) => Sleep::No,
            Err(error) => {
                lock(&self.failure).get_or_insert(error);
                self.failed.store(true, Ordering::Release);
                Sleep::No
            }
        }
    }

    /// Takes over the peer's acknowledgements, and wakes those who wait for room.
    fn take_credit(&self, receive: &mut Receive) -> Result<(), String> {
        for lane in Lane::ALL {
            let credit = receive.lanes.credit[lane.index()];
            if credit > receive.credited[lane.index()] {
                receive.credited[lane.index()] = credit;
                self.send
                    .ring(lane)
                    .release(credit)
                    .map_err(|error| error.to_string())?;
                self.heard.store(true, Ordering::Relaxed);
                if lane == Lane::Ordinary {
                    self.room.wake_all();
                }
            }
        }
        Ok(())
    }

    /// Tells the peer what was consumed, where a quarter of a ring has been, or all of it when `due`.
    fn acknowledge(&self, receive: &mut Receive, due: bool) {
        let mut tell = false;
        for lane in Lane::ALL {
            let consumed = receive.lanes.ring(lane).consumed();
            let capacity = receive.lanes.ring(lane).capacity();
            let untold = consumed - receive.acknowledged[lane.index()];
            if untold >= capacity / 4 || due && untold > 0 {
                receive.acknowledged[lane.index()] = consumed;
                self.send.acknowledge[lane.index()].store(consumed, Ordering::Release);
                tell = true;
            }
        }
        if tell {
            // Not `flush`: a bell is for commits; an acknowledgement is always pushed.
            self.push();
        }
    }

    /// Drops the link. The session waits for another, or ends where none can come.
    fn lose_link(self: &Arc<Self>, receive: &mut Receive) {
        *lock(&self.gate) = None;
        let had_link = receive.link.take().is_some();
        self.blocked.store(false, Ordering::Relaxed);
        self.failed.store(false, Ordering::Release);
        let failure = lock(&self.failure).take();
        *lock(&self.link) = None;
        if self.ended.get().is_some() || !had_link {
            return;
        }
        if receive.leaving {
            self.end(receive, Ended::Closed);
            return;
        }
        let cause = failure.map_or_else(|| "replaced".to_owned(), |error| error.to_string());
        if self.doorbell.get().is_some() {
            self.end(receive, Ended::Unresumable(cause));
            return;
        }
        lock(&self.life).link_lost(self.node.now(), cause.clone());
        self.node.events.tell(Event::Suspended {
            node: self.identity.node.clone(),
            cause,
        });
        if !self.dialled.is_empty() {
            self.node.dial_again(self.clone());
        }
    }

    /// Stops receiving and says what has been consumed so far: the first half of a change of link.
    pub(crate) fn suspend(self: &Arc<Self>) -> Suspension {
        let mut receive = self.receive_side();
        let receive = &mut *receive;
        *lock(&self.gate) = None;
        if receive.link.take().is_some() {
            lock(&self.life).link_lost(self.node.now(), "replaced by another link".into());
        }
        self.failed.store(false, Ordering::Release);
        lock(&self.failure).take();
        receive.suspensions += 1;
        let consumed = receive.lanes.rings.each_mut().map(|ring| {
            ring.forget_unconsumed();
            ring.consumed()
        });
        Suspension {
            number: receive.suspensions,
            consumed,
        }
    }

    /// Goes on over another link: the second half. False when the session is over, or has been suspended again since:
    /// then the peer was told positions that no longer hold, and this link is not to be used.
    pub(crate) fn resume(
        &self,
        suspension: &Suspension,
        scheme: &str,
        link: Link,
        peer_consumed: [Position; LANES],
    ) -> Result<bool, String> {
        let mut receive = self.receive_side();
        if receive.suspensions != suspension.number || receive.link.is_some() {
            return Ok(false);
        }
        for lane in Lane::ALL {
            let (ring, position) = (self.send.ring(lane), peer_consumed[lane.index()]);
            if !ring.is_boundary(position) {
                return Err(format!(
                    "resumes the {lane:?} lane at position {position}, where no frame starts"
                ));
            }
            ring.release(position).map_err(|error| error.to_string())?;
        }
        self.room.wake_all();
        if self.ended.get().is_some() || !lock(&self.life).resumed(self.node.now()) {
            return Ok(false);
        }
        for ring in &mut receive.lanes.rings {
            ring.resume(link.arrival);
        }
        receive.lanes.credit = peer_consumed;
        receive.credited = peer_consumed;
        receive.link = Some(link.receiver);
        receive.generation += 1;
        receive.acknowledged = [0; LANES];
        let description = format!("{scheme} ({})", link.description);
        *lock(&self.gate) = Some(link.sender);
        *lock(&self.link) = Some(description.clone());
        self.failed.store(false, Ordering::Release);
        drop(receive);
        self.node.events.tell(Event::Resumed {
            node: self.identity.node.clone(),
            link: description,
        });
        self.push();
        Ok(true)
    }

    /// Keeps time: heartbeats, silence, the resume window. Returns when to come back.
    pub(crate) fn tick(self: &Arc<Self>, now: Time) -> Option<Time> {
        loop {
            let (action, deadline) = {
                let mut life = lock(&self.life);
                if self.heard.swap(false, Ordering::Relaxed) {
                    life.heard(now);
                }
                (life.tick(now), life.deadline())
            };
            match action {
                None => return deadline,
                Some(Action::Beat) => {
                    if let Some(mut receive) = try_lock(&self.receive) {
                        self.acknowledge(&mut receive, true);
                    }
                    self.send_control(&Control::Heartbeat);
                }
                Some(Action::DropLink) => {
                    lock(&self.failure).get_or_insert(LinkError::TimedOut);
                    let mut receive = self.receive_side();
                    self.lose_link(&mut receive);
                }
                Some(Action::End(why)) => {
                    let mut receive = self.receive_side();
                    self.end(&mut receive, why);
                }
            }
        }
    }

    // The end.

    /// Ends the session: everything unacknowledged becomes a dead letter, everybody who waits is told.
    pub(crate) fn end(self: &Arc<Self>, receive: &mut Receive, why: Ended) {
        if self.ended.set(why.clone()).is_err() {
            return;
        }
        lock(&self.life).end(why.clone());
        receive.link = None;
        *lock(&self.gate) = None;
        *lock(&self.link) = None;
        for ring in &self.send.rings {
            ring.close();
        }
        let routes = std::mem::take(&mut *lock(&self.routes));
        // Dead letters name the mailbox, so the names are kept until they have been written.
        for route in routes.by_handle.values() {
            lock(&self.routes).by_handle.insert(route.handle, route.clone());
            route.close();
        }
        self.collect_unacknowledged();
        lock(&self.routes).by_handle.clear();
        for (_, (_, resolving)) in routes.resolving {
            if let Resolving::Asked(waker) = resolving {
                waker.wake();
            }
        }
        receive.ports.clear();
        self.room.wake_all();
        self.closing.wake_all();
        self.node.forget_peer(self);
        self.node.events.tell(Event::Ended {
            node: self.identity.node.clone(),
            why,
        });
    }

    /// Makes dead letters of committed messages that the peer has not acknowledged. Called again by whoever commits
    /// after the end, so that each is reported once and none is missed.
    fn collect_unacknowledged(&self) {
        let mut collected = lock(&self.collected);
        for lane in [Lane::Ordinary, Lane::Large] {
            let from = collected[lane.index()];
            let until = self.send.ring(lane).unacknowledged(from, |header, body| {
                if header.kind != Kind::Message {
                    return;
                }
                let (extension, payload) = body.split_at(usize::from(header.extension).min(body.len()));
                let mailbox = lock(&self.routes)
                    .by_handle
                    .get(&header.mailbox)
                    .map(|route| route.mailbox.clone());
                self.report(DeadLetter {
                    reason: Reason::Unacknowledged,
                    node: Some(self.identity.node.clone()),
                    mailbox: mailbox.unwrap_or_else(|| format!("#{}", header.mailbox)),
                    correlation: correlation_in(header.flags, extension),
                    len: payload.len(),
                    payload: Some(payload.into()),
                });
            });
            collected[lane.index()] = until;
        }
    }

    fn close(self: &Arc<Self>, timeout: Duration) {
        if self.ended.get().is_none() && self.is_connected() {
            self.send_control(&Control::Goodbye);
            let deadline = Instant::now().checked_add(timeout);
            self.node.wait_for(deadline, |waker| {
                let taken = |lane| self.send.ring(lane).released() >= self.send.ring(lane).claimed();
                let over = || {
                    self.ended.get().is_some()
                        || self.goodbye_acknowledged.load(Ordering::Acquire)
                            && taken(Lane::Ordinary)
                            && taken(Lane::Large)
                };
                if over() {
                    return Poll::Ready(());
                }
                self.closing.register(waker);
                self.room.register(waker);
                if over() { Poll::Ready(()) } else { Poll::Pending }
            });
        }
        let mut receive = self.receive_side();
        self.end(&mut receive, Ended::Closed);
    }

    // Control messages.

    pub(crate) fn handle_goodbye(self: &Arc<Self>, receive: &mut Receive) {
        receive.leaving = true;
        self.acknowledge(receive, true);
        self.send_control(&Control::GoodbyeAcknowledged);
    }

    pub(crate) fn handle_goodbye_acknowledged(&self) {
        self.goodbye_acknowledged.store(true, Ordering::Release);
        self.closing.wake_all();
    }

    pub(crate) fn handle_resolved(self: &Arc<Self>, request: u32, terms: Option<Terms>) {
        let mut routes = lock(&self.routes);
        let Some((name, resolving)) = routes.resolving.remove(&request) else {
            return;
        };
        // Two threads may have asked at once: they share the handle, so they share its credit.
        let route = terms.map(|terms| match routes.by_handle.get(&terms.handle) {
            Some(known) => known.clone(),
            None => Arc::new(Route::new(self.clone(), name.clone(), terms)),
        });
        if let Some(route) = &route {
            routes.by_name.insert(name.clone(), route.clone());
            routes.by_handle.insert(route.handle, route.clone());
        }
        routes
            .resolving
            .insert(request, (name, Resolving::Answered(route)));
        drop(routes);
        if let Resolving::Asked(waker) = resolving {
            waker.wake();
        }
    }

    pub(crate) fn handle_credit(&self, handle: u32, limit: u64) {
        let route = lock(&self.routes).by_handle.get(&handle).cloned();
        if let Some(route) = route {
            route.grant(limit);
        }
    }

    pub(crate) fn handle_closed(&self, handle: u32) {
        let mut routes = lock(&self.routes);
        if let Some(route) = routes.by_handle.get(&handle).cloned() {
            // The handle stays known, for the dead letters that may still come back.
            if routes
                .by_name
                .get(&route.mailbox)
                .is_some_and(|known| Arc::ptr_eq(known, &route))
            {
                routes.by_name.remove(&route.mailbox);
            }
            drop(routes);
            route.close();
        }
    }

    pub(crate) fn handle_undelivered(&self, handle: u32, length: u32, correlation: u64) {
        let mailbox = lock(&self.routes)
            .by_handle
            .get(&handle)
            .map(|route| route.mailbox.clone());
        self.report(DeadLetter {
            reason: Reason::MailboxClosed,
            node: Some(self.identity.node.clone()),
            mailbox: mailbox.unwrap_or_else(|| format!("#{handle}")),
            correlation: (correlation != 0).then_some(correlation),
            len: length as usize,
            payload: None,
        });
    }

    fn resolve(
        self: &Arc<Self>,
        mailbox: &str,
        asked: &mut Option<u32>,
        waker: &Waker,
    ) -> Poll<Result<Address, ResolveError>> {
        if mailbox.is_empty() || mailbox.len() > MAX_NAME {
            return Poll::Ready(Err(ResolveError::BadName { len: mailbox.len() }));
        }
        if let Some(ended) = self.ended() {
            return Poll::Ready(Err(ResolveError::SessionOver(ended)));
        }
        let found = |route: Arc<Route>| {
            Poll::Ready(Ok(Address {
                target: Target::Remote(route),
            }))
        };
        let mut routes = lock(&self.routes);
        if let Some(route) = routes.by_name.get(mailbox) {
            return found(route.clone());
        }
        if let Some(request) = *asked {
            return match routes.resolving.remove(&request) {
                Some((_, Resolving::Answered(Some(route)))) => found(route),
                Some((_, Resolving::Answered(None))) => Poll::Ready(Err(ResolveError::NoSuchMailbox {
                    node: self.identity.node.clone(),
                    mailbox: mailbox.to_owned(),
                })),
                Some((name, Resolving::Asked(_))) => {
                    routes
                        .resolving
                        .insert(request, (name, Resolving::Asked(waker.clone())));
                    Poll::Pending
                }
                // The session ended in between.
                None => Poll::Ready(Err(ResolveError::SessionOver(
                    self.ended().unwrap_or(Ended::Closed),
                ))),
            };
        }
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        *asked = Some(request);
        routes
            .resolving
            .insert(request, (mailbox.to_owned(), Resolving::Asked(waker.clone())));
        drop(routes);
        self.send_control(&Control::Resolve {
            request,
            name: mailbox.to_owned(),
        });
        Poll::Pending
    }

    pub(crate) fn weak(self: &Arc<Self>) -> Weak<PeerInner> {
        Arc::downgrade(self)
    }
}

/// The correlation id in a frame's extension, if its flags announce one.
pub(crate) fn correlation_in(flags: u8, extension: &[u8]) -> Option<u64> {
    if flags & crate::address::FLAG_CORRELATION == 0 {
        return None;
    }
    Reader::new(extension).u64().ok()
}

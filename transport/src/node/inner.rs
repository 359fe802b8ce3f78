//! What everything of a node shares: its mailboxes and peers, and whoever drives it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::Drive;
use crate::address::{Address, Target};
use crate::answer::Guests;
use crate::assembly::AssemblyPool;
use crate::buffer::{Buffer, BufferPool};
use crate::dead_letter::{DeadLetter, DeadLetters, Reason};
use crate::doze;
use crate::drive::Driver;
use crate::event::{Event, Events};
use crate::handshake::{Identity, Secret};
use crate::latency::Latencies;
use crate::link::Transport;
use crate::mailbox::{Direct, MailboxShared};
use crate::observe::{MailboxObservation, ReceivedByPeer};
use crate::peer::{Peer, PeerInner, ResolveError};
use crate::place::Places;
use crate::protocol::{self, Asked, Refusal};
use crate::questions::{Questions, THIS_NODE};
use crate::session::{Ended, Time, Timing};
use crate::surroundings::Surroundings;
use crate::sync;
use crate::wait::{Idle, Step, Wait, lock, thread_waker};

pub(crate) struct NodeInner {
    pub(super) this: std::sync::Weak<NodeInner>,
    /// Wakes whoever drives the node, where callers do.
    pub(super) wake_driver: OnceLock<Waker>,
    pub(crate) identity: Identity,
    pub(crate) secret: Secret,
    pub(crate) transports: Vec<Arc<dyn Transport>>,
    pub(super) timing: Timing,
    /// How long refusals have to last: see [`crate::NodeBuilder::refused_window`].
    pub(crate) refused_window: Option<Duration>,
    pub(crate) wait: Wait,
    pub(super) drive: Drive,
    pub(crate) places: Places,
    pub(crate) surroundings: Arc<dyn Surroundings>,
    pub(super) addresses: Vec<String>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) events: Events,
    pub(crate) latencies: Arc<Latencies>,
    pub(super) buffers: Arc<BufferPool>,
    pub(crate) assembly_pool: Arc<AssemblyPool>,
    pub(crate) peers: Mutex<Vec<Arc<PeerInner>>>,
    pub(crate) peers_version: AtomicU64,
    /// Something happened to a peer that its link does not tell of: see [`NodeInner::attend`].
    pub(crate) attention: AtomicBool,
    pub(crate) questions: Questions,
    pub(super) mailboxes: Mutex<HashMap<String, Arc<MailboxShared>>>,
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
    pub(super) waker: Arc<mio::Waker>,
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
        // Either the closing of the node finds the peer there, or it is seen here.
        if self.closed.load(Ordering::SeqCst) {
            let mut receive = added.receive_side();
            added.end(&mut receive, Ended::Closed);
            return;
        }
        added.greet();
        self.wake();
    }

    pub(crate) fn forget_peer(&self, peer: &Arc<PeerInner>) {
        lock(&self.peers).retain(|known| !Arc::ptr_eq(known, peer));
        self.peers_version.fetch_add(1, Ordering::Release);
    }

    /// Sessions without a link whose peer, if it says the truth, has been restarted since.
    pub(crate) fn earlier_incarnations(&self, identity: &Identity) -> Vec<Arc<PeerInner>> {
        lock(&self.peers)
            .iter()
            .filter(|peer| {
                peer.identity.node == identity.node
                    && peer.identity.incarnation != identity.incarnation
                    && !peer.has_link()
            })
            .cloned()
            .collect()
    }

    /// Ends sessions without a link whose peer has been restarted since.
    pub(crate) fn end_earlier_incarnations(&self, identity: &Identity) {
        for peer in self.earlier_incarnations(identity) {
            let mut receive = peer.receive_side();
            peer.end(&mut receive, Ended::Forgotten);
        }
    }

    /// Ends sessions without a link to an incarnation that is gone, whoever dialled them.
    pub(crate) fn end_incarnation(&self, identity: &Identity, why: &Ended) {
        let gone: Vec<_> = lock(&self.peers)
            .iter()
            .filter(|peer| peer.identity.is_same_node(identity) && !peer.has_link())
            .cloned()
            .collect();
        for peer in gone {
            let mut receive = peer.receive_side();
            // A link comes with the receive side held: whose has come since lives.
            if !peer.has_link() {
                peer.end(&mut receive, why.clone());
            }
        }
    }

    /// Whether this incarnation is heard over a link of any session.
    pub(crate) fn hears(&self, identity: &Identity) -> bool {
        lock(&self.peers)
            .iter()
            .any(|peer| peer.identity.is_same_node(identity) && peer.is_proven())
    }

    // Driving.

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

    pub(super) fn run(&self) {
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
        attempt: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let mut has_driven = false;
        let value = self.drive_until(deadline, attempt, &mut has_driven);
        if has_driven {
            self.hand_back();
        }
        value
    }

    fn drive_until<T>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&Waker) -> Poll<T>,
        has_driven: &mut bool,
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
                    *has_driven = true;
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

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.waker.wake();
        for mailbox in lock(&self.mailboxes).values() {
            mailbox.close();
        }
        let peers = std::mem::take(&mut *lock(&self.peers));
        for peer in peers {
            peer.push_postponed();
            // Not waited for: a peer that gets it need not wait for a link that never comes.
            peer.say_goodbye();
            let mut receive = peer.receive_side();
            peer.end(&mut receive, Ended::Closed);
        }
    }
}

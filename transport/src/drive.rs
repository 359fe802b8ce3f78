//! The driver: one pass over everything that may have arrived, and the sleep between passes.

mod listening;
mod sleeping;

use std::collections::{HashMap, HashSet};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::mailbox::Direct;
use crate::node::NodeInner;
#[cfg(feature = "tokio")]
use crate::on_tokio::Telling;
use crate::peer::PeerInner;
use crate::session::Time;
use crate::wait::{Wait, lock, try_lock};

pub(crate) use listening::Listeners;
use listening::Listening;
pub(crate) use sleeping::Sleep;
#[cfg(feature = "tokio")]
pub(crate) use sleeping::SleepOn;

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_PEER: usize = 2;

/// Passes between two looks at the clock, while the driver does not sleep.
const PASSES_PER_LOOK: u32 = 64;
/// With more links than this that poll by system call, the driver asks the system which of them are ready.
const POLLED_DIRECTLY: usize = 2;
/// The deadlines of all peers are looked at together, at most so often while a heartbeat is due once.
const TICKS_PER_HEARTBEAT: u32 = 16;

/// With more peers than this, one that polls memory and is quiet is left alone until its link tells of something.
const FEW_PEERS: usize = 8;
/// Turns without anything after which such a peer counts as quiet.
const QUIET_TURNS: u32 = 64;
/// Passes between two questions to the system whether a quiet peer's link has told of something.
const PASSES_PER_QUESTION: u32 = 8;

struct Driven {
    peer: Arc<PeerInner>,
    token: usize,
    /// Which of the peer's links is registered with the poller.
    link_number: u64,
    /// The runtime tells of that link, not the poller.
    #[cfg(feature = "tokio")]
    told: bool,
    polls_memory: bool,
    /// Has a turn in every pass. Who has none makes a descriptor readable when something arrives.
    awake: bool,
    /// Its link is armed, and was not polled since.
    armed: bool,
    quiet_turns: u32,
}

/// What came of a peer's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    Nothing,
    /// Heartbeats and what goes with them: no reason to wait for more.
    Upkeep,
    /// Something, and more may follow.
    Moved,
}

/// What the driving thread owns.
pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    listening: Listening,
    /// The poller has been asked since the last pass.
    asked: bool,
    /// Has the runtime tell of the links of few peers, as long as no thread sleeps on the poller.
    #[cfg(feature = "tokio")]
    telling: Option<Telling>,
    peers: Vec<Driven>,
    /// Places of those that are awake.
    awake: Vec<usize>,
    /// How many of their links poll by system call.
    polling_by_call: usize,
    by_token: HashMap<usize, usize>,
    /// A link could not be registered with the poller yet.
    unregistered: bool,
    next_token: usize,
    version: u64,
    passes: u32,
    next_tick: Time,
    /// Until when the last sleep was to last.
    alarm: Time,
}

impl Driver {
    pub(crate) fn new(listeners: Listeners) -> std::io::Result<(Driver, Arc<mio::Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        let listening = Listening::new(listeners, poll.registry())?;
        let driver = Driver {
            poll,
            events: Events::with_capacity(256),
            listening,
            asked: false,
            #[cfg(feature = "tokio")]
            telling: None,
            peers: Vec::new(),
            awake: Vec::new(),
            polling_by_call: 0,
            by_token: HashMap::new(),
            unregistered: false,
            next_token: FIRST_PEER,
            version: 0,
            passes: 0,
            next_tick: Time::ZERO,
            alarm: Time::ZERO,
        };
        Ok((driver, waker))
    }

    /// Gives up the listeners and the peers: the node is closed.
    pub(crate) fn stop(&mut self) {
        self.listening.stop();
        self.peers.clear();
        self.awake.clear();
        self.by_token.clear();
    }

    /// One pass. Whether anything arrived that more may follow. Quiet peers cost nothing, however many they are.
    pub(crate) fn pass(&mut self, node: &NodeInner, direct: &mut Option<Direct<'_>>) -> bool {
        self.pass_with(node, direct, false)
    }

    /// As [`Driver::pass`], for who is likely to sleep next: each link is armed where its peer has had its turn.
    #[cfg(feature = "tokio")]
    pub(crate) fn pass_and_arm(&mut self, node: &NodeInner) {
        self.pass_with(node, &mut None, true);
    }

    fn pass_with(&mut self, node: &NodeInner, direct: &mut Option<Direct<'_>>, arming: bool) -> bool {
        if self.version != node.peers_version.load(Ordering::Acquire) {
            self.take_over_peers(node);
        }
        if self.unregistered || node.attention.load(Ordering::Relaxed) {
            node.attention.store(false, Ordering::SeqCst);
            self.register_links();
            self.wake_everybody();
        }
        self.passes = self.passes.wrapping_add(1);
        if self.passes.is_multiple_of(PASSES_PER_LOOK) {
            let now = node.now();
            self.listening.ask_now_and_then(now);
            self.look_around(node, now, direct);
        }
        let many_calls = self.polling_by_call > POLLED_DIRECTLY;
        let asked = std::mem::take(&mut self.asked);
        if many_calls && !asked
            || self.awake.len() < self.peers.len() && self.passes.is_multiple_of(PASSES_PER_QUESTION)
        {
            self.ask_for_readiness(Some(Duration::ZERO));
        }
        let few = self.peers.len() <= FEW_PEERS;
        // Of one peer alone: among several, each would wait for the others.
        let linger = self.awake.len() == 1 && node.wait != Wait::Park;
        let mut any = false;
        let mut at = 0;
        while let Some(&place) = self.awake.get(at) {
            let driven = &mut self.peers[place];
            let turn = driven.turn(direct, linger, arming);
            any |= turn == Turn::Moved;
            if turn != Turn::Nothing {
                driven.quiet_turns = 0;
            } else if driven.falls_asleep(few, many_calls) {
                driven.awake = false;
                self.awake.swap_remove(at);
                continue;
            }
            at += 1;
        }
        any
    }

    /// One pass with a look at the clock and at the listeners, for a simulated node.
    #[cfg(feature = "sim")]
    pub(crate) fn step(&mut self, node: &NodeInner) {
        self.listening.ask_next();
        // Simulated links have no descriptors: nothing would wake a quiet peer.
        self.wake_everybody();
        self.look_around(node, node.now(), &mut None);
        self.pass(node, &mut None);
    }

    /// Accepts where it is due, and keeps the deadlines.
    fn look_around(&mut self, node: &NodeInner, now: Time, direct: &mut Option<Direct<'_>>) {
        self.listening.accept(node, now);
        node.questions.expire(now);
        if now >= self.next_tick {
            let heartbeat = node.timing().heartbeat;
            self.next_tick = now + heartbeat / 2;
            let together = (heartbeat / TICKS_PER_HEARTBEAT).max(Duration::from_millis(1));
            // A node that was itself held up must not take its peers for silent: what they sent is there.
            self.ask_for_readiness(Some(Duration::ZERO));
            for driven in &mut self.peers {
                if driven.awake {
                    driven.armed = false;
                    driven.peer.turn(direct, false);
                }
                if let Some(deadline) = driven.peer.tick(now) {
                    self.next_tick = self.next_tick.min(deadline.max(now + together));
                }
            }
        }
    }

    fn take_over_peers(&mut self, node: &NodeInner) {
        self.version = node.peers_version.load(Ordering::Acquire);
        let peers = lock(&node.peers).clone();
        let current: HashSet<_> = peers.iter().map(Arc::as_ptr).collect();
        self.peers
            .retain(|driven| current.contains(&Arc::as_ptr(&driven.peer)));
        let known: HashSet<_> = self
            .peers
            .iter()
            .map(|driven| Arc::as_ptr(&driven.peer))
            .collect();
        for peer in peers.iter().filter(|peer| !known.contains(&Arc::as_ptr(peer))) {
            let token = self.next_token;
            self.next_token += 1;
            self.peers.push(Driven {
                peer: peer.clone(),
                token,
                link_number: 0,
                #[cfg(feature = "tokio")]
                told: false,
                polls_memory: false,
                awake: false,
                armed: false,
                quiet_turns: 0,
            });
        }
        self.by_token = self
            .peers
            .iter()
            .enumerate()
            .map(|(place, driven)| (driven.token, place))
            .collect();
        self.next_tick = Time::ZERO;
        #[cfg(feature = "tokio")]
        if self.peers.len() > POLLED_DIRECTLY {
            self.leave_to_the_poller();
        }
        self.register_links();
        self.wake_everybody();
    }

    /// Gives every peer a turn in the next pass.
    fn wake_everybody(&mut self) {
        self.awake.clear();
        for (place, driven) in self.peers.iter_mut().enumerate() {
            driven.awake = true;
            driven.quiet_turns = 0;
            self.awake.push(place);
        }
    }

    /// Registers the descriptors of links that are new.
    fn register_links(&mut self) {
        self.unregistered = false;
        for driven in &mut self.peers {
            if driven.peer.link_number() == driven.link_number {
                continue;
            }
            #[cfg_attr(not(feature = "tokio"), allow(unused_mut))]
            let Some(mut receive) = try_lock(&driven.peer.receive) else {
                self.unregistered = true;
                continue;
            };
            #[cfg(feature = "tokio")]
            {
                driven.told = receive.tell(self.telling.as_ref());
            }
            let Some(link) = &receive.link else { continue };
            driven.link_number = driven.peer.link_number();
            driven.polls_memory = link.polls_memory();
            #[cfg(feature = "tokio")]
            if driven.told {
                continue;
            }
            // A socket that only wakes has room again with every wake-up that its other end reads: no reason to wake.
            let interest = match driven.polls_memory {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            for descriptor in link.descriptors() {
                let registered = self.poll.registry().register(
                    &mut SourceFd(&descriptor.as_raw_fd()),
                    Token(driven.token),
                    interest,
                );
                if let Err(error) = registered {
                    tracing::warn!(%error, "a link can't be waited on; it will be polled");
                }
            }
        }
        self.polling_by_call = self.peers.iter().filter(|driven| !driven.polls_memory).count();
    }

    fn ask_for_readiness(&mut self, timeout: Option<Duration>) {
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            tracing::warn!(%error, "poller");
        }
        self.asked = true;
        for event in &self.events {
            if event.token() == LISTENER {
                self.listening.ask_next();
            }
            if let Some(&place) = self.by_token.get(&event.token().0) {
                let driven = &mut self.peers[place];
                driven.quiet_turns = 0;
                if !std::mem::replace(&mut driven.awake, true) {
                    self.awake.push(place);
                }
            }
        }
    }

    /// From here on the runtime tells of links, as long as they are few.
    #[cfg(feature = "tokio")]
    pub(crate) fn told_by(&mut self, telling: Telling) {
        self.telling = Some(telling);
    }

    /// From here on the poller tells of all links, also those that the runtime has told of.
    #[cfg(feature = "tokio")]
    fn leave_to_the_poller(&mut self) {
        self.telling = None;
        for driven in self.peers.iter_mut().filter(|driven| driven.told) {
            driven.link_number = 0;
        }
    }

    /// The poller: readable when there is a reason to wake.
    #[cfg(feature = "tokio")]
    pub(crate) fn descriptor(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.poll.registry().as_fd().try_clone_to_owned()
    }
}

impl Driven {
    /// The peer's turn; `arming`: its link is armed after it.
    fn turn(&mut self, direct: &mut Option<Direct<'_>>, linger: bool, arming: bool) -> Turn {
        if arming {
            let (turn, sleep) = self.peer.turn_and_prepare_to_sleep(direct);
            self.armed = matches!(sleep, Sleep::Sound);
            return turn;
        }
        self.armed = false;
        self.peer.turn(direct, linger && self.polls_memory)
    }

    /// After a turn without anything: whether the peer needs no further turns until its link tells of something.
    fn falls_asleep(&mut self, few: bool, many_calls: bool) -> bool {
        if !self.polls_memory {
            // It has read until there was nothing; the poller tells of more.
            return many_calls;
        }
        self.quiet_turns += 1;
        if few || self.quiet_turns < QUIET_TURNS {
            return false;
        }
        self.quiet_turns = 0;
        self.armed = matches!(self.peer.prepare_to_sleep(), Sleep::Sound);
        self.armed
    }
}

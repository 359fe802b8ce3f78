//! The driver: one pass over everything that may have arrived, and the sleep between passes.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::answer;
use crate::link::Listener;
use crate::mailbox::Direct;
use crate::node::NodeInner;
use crate::peer::PeerInner;
use crate::session::Time;
use crate::wait::{lock, try_lock};

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_PEER: usize = 2;

/// Passes between two looks at the clock and at the listeners, while the driver does not sleep.
const PASSES_PER_LOOK: u32 = 64;
/// With more links than this that poll by system call, the driver asks the system which of them are ready.
const POLLED_DIRECTLY: usize = 2;
/// How soon a blocked push is tried again, should nothing else wake the driver.
const RETRY: Duration = Duration::from_millis(1);

struct Driven {
    peer: Arc<PeerInner>,
    token: usize,
    /// Which of the peer's links is registered with the poller.
    link_number: u64,
    polls_memory: bool,
    ready: bool,
}

/// The node's listeners, each with the scheme of its transport.
pub(crate) type Listeners = Vec<(&'static str, Box<dyn Listener>)>;

/// What the driving thread owns.
pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    listeners: Listeners,
    peers: Vec<Driven>,
    /// How many of their links poll by system call.
    polling_by_call: usize,
    by_token: HashMap<usize, usize>,
    next_token: usize,
    version: u64,
    passes: u32,
    next_tick: Time,
}

impl Driver {
    pub(crate) fn new(listeners: Listeners) -> std::io::Result<(Driver, Arc<mio::Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        for (_, listener) in &listeners {
            poll.registry().register(
                &mut SourceFd(&listener.descriptor().as_raw_fd()),
                LISTENER,
                Interest::READABLE,
            )?;
        }
        let driver = Driver {
            poll,
            events: Events::with_capacity(256),
            listeners,
            peers: Vec::new(),
            polling_by_call: 0,
            by_token: HashMap::new(),
            next_token: FIRST_PEER,
            version: 0,
            passes: 0,
            next_tick: Time::ZERO,
        };
        Ok((driver, waker))
    }

    /// Gives up the listeners and the peers: the node is closed.
    pub(crate) fn stop(&mut self) {
        self.listeners.clear();
        self.peers.clear();
        self.by_token.clear();
    }

    /// One pass. Whether anything arrived.
    pub(crate) fn pass(&mut self, node: &NodeInner, direct: &mut Option<Direct<'_>>) -> bool {
        if self.version != node.peers_version.load(Ordering::Acquire) {
            self.take_over_peers(node);
        }
        self.passes = self.passes.wrapping_add(1);
        if self.passes.is_multiple_of(PASSES_PER_LOOK) {
            self.look_around(node, direct);
        }
        let ask = self.polling_by_call > POLLED_DIRECTLY;
        if ask {
            self.ask_for_readiness(Some(Duration::ZERO));
        }
        let mut any = false;
        for driven in &mut self.peers {
            if ask && !driven.polls_memory && !driven.ready {
                continue;
            }
            let moved = driven.peer.turn(direct);
            driven.ready = moved;
            any |= moved;
        }
        any
    }

    /// Accepts, and keeps the deadlines.
    fn look_around(&mut self, node: &NodeInner, direct: &mut Option<Direct<'_>>) {
        for (scheme, listener) in &mut self.listeners {
            loop {
                match listener.accept() {
                    Ok(Some(wire)) => {
                        if let Some(node) = node.strong() {
                            answer::answer(&node, scheme, wire);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "listener");
                        break;
                    }
                }
            }
        }
        let now = node.now();
        node.questions.expire(now);
        if now >= self.next_tick {
            self.next_tick = now + node.timing().heartbeat / 2;
            for driven in &self.peers {
                // A node that was itself held up must not take its peers for silent: what they sent is there.
                driven.peer.turn(direct);
                if let Some(deadline) = driven.peer.tick(now) {
                    self.next_tick = self.next_tick.min(deadline.max(now + Duration::from_millis(1)));
                }
            }
        }
    }

    fn take_over_peers(&mut self, node: &NodeInner) {
        self.version = node.peers_version.load(Ordering::Acquire);
        let peers = lock(&node.peers).clone();
        self.peers
            .retain(|driven| peers.iter().any(|peer| Arc::ptr_eq(peer, &driven.peer)));
        for peer in peers {
            if !self.peers.iter().any(|driven| Arc::ptr_eq(&driven.peer, &peer)) {
                let token = self.next_token;
                self.next_token += 1;
                self.peers.push(Driven {
                    peer,
                    token,
                    link_number: 0,
                    polls_memory: false,
                    ready: true,
                });
            }
        }
        self.by_token = self
            .peers
            .iter()
            .enumerate()
            .map(|(place, driven)| (driven.token, place))
            .collect();
        self.next_tick = Time::ZERO;
        self.register_links();
    }

    /// Registers the descriptors of links that are new.
    fn register_links(&mut self) {
        for driven in &mut self.peers {
            let Some(receive) = try_lock(&driven.peer.receive) else {
                continue;
            };
            let link_number = driven.peer.link_number();
            if link_number == driven.link_number {
                continue;
            }
            let Some(link) = &receive.link else { continue };
            driven.link_number = link_number;
            driven.polls_memory = link.polls_memory();
            driven.ready = true;
            for descriptor in link.descriptors() {
                let interest = Interest::READABLE | Interest::WRITABLE;
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
        self.register_links();
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            tracing::warn!(%error, "poller");
        }
        for event in &self.events {
            if let Some(place) = self.by_token.get(&event.token().0) {
                self.peers[*place].ready = true;
            }
        }
    }

    /// Sleeps until something arrives, somebody wakes the node, or a deadline comes.
    pub(crate) fn sleep(&mut self, node: &NodeInner, until: Option<Instant>) {
        if let Some(mut longest) = self.prepare_to_sleep(node) {
            if let Some(until) = until {
                longest = longest.min(until.saturating_duration_since(Instant::now()));
            }
            self.ask_for_readiness(Some(longest));
        }
    }

    /// Looks around once more and arms every link. For how long it may sleep then; `None` where it may not.
    pub(crate) fn prepare_to_sleep(&mut self, node: &NodeInner) -> Option<Duration> {
        self.look_around(node, &mut None);
        if self.version != node.peers_version.load(Ordering::Acquire) || node.closed.load(Ordering::Acquire) {
            return None;
        }
        self.register_links();
        let next = self.next_tick.min(node.questions.earliest());
        let mut longest = next.saturating_sub(node.now());
        for driven in &self.peers {
            match driven.peer.prepare_to_sleep() {
                Sleep::Sound => {}
                Sleep::Light => longest = longest.min(RETRY),
                Sleep::No => return None,
            }
        }
        Some(longest)
    }

    /// Takes over what the system has to tell after a sleep outside of [`Driver::sleep`].
    #[cfg(feature = "tokio")]
    pub(crate) fn woken(&mut self) {
        self.ask_for_readiness(Some(Duration::ZERO));
    }

    /// The poller: readable when there is a reason to wake.
    #[cfg(feature = "tokio")]
    pub(crate) fn descriptor(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.poll.registry().as_fd().try_clone_to_owned()
    }
}

/// How soundly the driver may sleep as far as one peer is concerned.
pub(crate) enum Sleep {
    /// Until something arrives.
    Sound,
    /// Not for long: a push waits for room.
    Light,
    /// Not at all: something has arrived.
    No,
}

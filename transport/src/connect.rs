//! Making sessions, and keeping them on a link: dialling, dialling again, and changing to a better link.
//!
//! One *keeper* at a time looks after each session that this node dialled: from the moment when its link is lost, or is
//! not the best it may have, until the best carries it or it is over.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::candidates::{Candidates, Pause};
use crate::conversation;
use crate::handshake::{HandshakeError, Refusal};
use crate::link::{LinkError, TransportError};
use crate::node::{NodeError, NodeInner};
use crate::peer::PeerInner;
use crate::refusals::Refusals;
use crate::session::{Ended, Time};
use crate::wait::{WaitList, lock};

/// How long a handshake may take in all: long enough for a busy machine to open a device and to register memory with it,
/// however soon the session is to end when it loses its links.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address, or this node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nobody could be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Somebody was reached, but they are not, or do not want to be, our peer.
    #[error("handshake with {peer}: {source}")]
    Handshake {
        /// Who answered.
        peer: String,
        /// Why.
        source: HandshakeError,
    },
    /// The link failed during the handshake.
    #[error("link to {peer}: {source}")]
    Link {
        /// Who answered.
        peer: String,
        /// Why.
        source: LinkError,
    },
    /// No address was given.
    #[error("no address to connect to")]
    NoAddress,
    /// This node has as many peers as it may, those included whose handshakes are about to succeed.
    #[error("this node has {max} peers, as many as it may: NodeBuilder::max_peers")]
    TooManyPeers {
        /// The limit.
        max: usize,
    },
    /// The thread for the handshake could not be started.
    #[error("no thread for the handshake: {0}")]
    NoThread(std::io::Error),
}

impl ConnectError {
    /// Whether somebody has answered, whoever it was.
    fn has_answered(&self) -> bool {
        matches!(self, ConnectError::Handshake { .. } | ConnectError::Link { .. })
    }

    fn is_refusal(&self) -> bool {
        matches!(self, ConnectError::Transport(error) if error.is_refusal())
    }

    fn is_unknown_session(&self) -> bool {
        let unknown = HandshakeError::Refused(Refusal::UnknownSession);
        matches!(self, ConnectError::Handshake { source, .. } if *source == unknown)
    }

    /// Whether it is worth dialling the same address again soon.
    fn is_crowded(&self) -> bool {
        let crowded = HandshakeError::Refused(Refusal::Crowded);
        matches!(self, ConnectError::Handshake { source, .. } if *source == crowded)
    }
}

/// Turns the errors of one attempt into errors that name the peer.
pub(crate) trait Named<T> {
    fn named(self, peer: &str) -> Result<T, ConnectError>;
}

impl<T> Named<T> for Result<T, LinkError> {
    fn named(self, peer: &str) -> Result<T, ConnectError> {
        self.map_err(|source| ConnectError::Link {
            peer: peer.to_owned(),
            source,
        })
    }
}

impl<T> Named<T> for Result<T, HandshakeError> {
    fn named(self, peer: &str) -> Result<T, ConnectError> {
        self.map_err(|source| ConnectError::Handshake {
            peer: peer.to_owned(),
            source,
        })
    }
}

/// Dials the first of the addresses that answers, best first, and makes a new session. Where too many dial at once, again after a
/// pause, until the time for a handshake is over.
pub(crate) async fn connect(
    node: Arc<NodeInner>,
    addresses: Vec<String>,
) -> Result<Arc<PeerInner>, ConnectError> {
    let mut patience = node.surroundings.patience();
    let until = node.now() + patience;
    let (mut pause, nobody_wakes) = (Pause::new(), WaitList::default());
    loop {
        let (mut last, mut crowded) = (ConnectError::NoAddress, false);
        for at in 0..addresses.len() {
            match conversation::dial(&node, &addresses, at, patience).await {
                Ok(peer) => {
                    if !is_at_best(&peer) {
                        keep_linked(&peer);
                    }
                    return Ok(peer);
                }
                Err(error) => last = error,
            }
            crowded |= last.is_crowded();
        }
        let again = node.surroundings.after(&mut pause);
        if !crowded || again >= until {
            return Err(last);
        }
        let closed = || node.closed.load(Ordering::Acquire);
        node.surroundings.wait(&nobody_wakes, again, &closed).await;
        patience = until.saturating_sub(node.now());
    }
}

/// As [`connect`], beside the caller. A session that is made when the caller no longer waits for it is closed.
pub(crate) async fn connect_async(
    node: &Arc<NodeInner>,
    addresses: Vec<String>,
) -> Result<Arc<PeerInner>, ConnectError> {
    let awaited = Awaited(Arc::default());
    let connecting = {
        let (slot, node) = (awaited.0.clone(), node.clone());
        async move { slot.fill(connect(node, addresses).await) }
    };
    node.surroundings
        .start("connect", Box::pin(connecting))
        .map_err(ConnectError::NoThread)?;
    poll_fn(|context| awaited.0.poll(context.waker())).await
}

type Connected = Result<Arc<PeerInner>, ConnectError>;

/// Where what connects leaves its result for who waits.
#[derive(Default)]
struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    result: Option<Connected>,
    waker: Option<Waker>,
    is_given_up: bool,
}

impl Slot {
    fn fill(&self, result: Connected) {
        let mut waiting = lock(&self.0);
        if waiting.is_given_up {
            drop(waiting);
            close(result);
            return;
        }
        waiting.result = Some(result);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Connected> {
        let mut waiting = lock(&self.0);
        match waiting.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                waiting.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// Whoever waits for a slot. Dropped, it gives up.
struct Awaited(Arc<Slot>);

impl Drop for Awaited {
    fn drop(&mut self) {
        let unclaimed = {
            let mut waiting = lock(&self.0.0);
            waiting.is_given_up = true;
            waiting.result.take()
        };
        if let Some(result) = unclaimed {
            close(result);
        }
    }
}

fn close(connected: Connected) {
    if let Ok(peer) = connected {
        peer.say_goodbye();
        peer.finish_close();
    }
}

/// Whether a session needs its keeper: it was dialled, is not over, and has no link or not its best.
fn needs_keeper(peer: &PeerInner) -> bool {
    !is_over(peer)
        && !peer.dialled.is_empty()
        && !(peer.is_proven() && (is_at_best(peer) || peer.is_shared()))
}

fn is_over(peer: &PeerInner) -> bool {
    peer.ended().is_some() || peer.node.closed.load(Ordering::Acquire)
}

fn is_at_best(peer: &PeerInner) -> bool {
    peer.dialled_at.load(Ordering::Acquire) == 0
}

/// Sees to it that the session's keeper knows what has become of the link.
pub(crate) fn keep_linked(peer: &Arc<PeerInner>) {
    peer.link_changed.wake_all();
    // Whoever finds the keeper's place taken has changed the session before; the keeper looks after it has left.
    if !needs_keeper(peer) || peer.keeping.swap(true, Ordering::SeqCst) {
        return;
    }
    let keeping = {
        let peer = peer.clone();
        async move {
            loop {
                keep(&peer).await;
                peer.keeping.store(false, Ordering::SeqCst);
                if !needs_keeper(&peer) || peer.keeping.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        }
    };
    if let Err(error) = peer.node.surroundings.start("keep linked", Box::pin(keeping)) {
        peer.keeping.store(false, Ordering::SeqCst);
        tracing::warn!(%error, "no thread to dial again: the session ends at its resume window");
    }
}

async fn keep(peer: &Arc<PeerInner>) {
    let node = &peer.node;
    let mut candidates = Candidates::new(peer.dialled.len(), node.timing());
    let mut pause = Pause::new();
    let mut refusals = Refusals::new(node.refused_window);
    // The link that runs, as this keeper knows it: which address, since when, which of the session's links.
    let mut known: Option<(usize, Time, u64)> = None;
    let mut proven = false;
    while needs_keeper(peer) {
        let now = node.now();
        if peer.has_link() {
            let at = peer.dialled_at.load(Ordering::Acquire);
            let (at, _, number) = *known.get_or_insert((at, now, peer.link_number()));
            if !peer.is_proven() {
                let over = move |peer: &PeerInner| peer.is_proven() || !peer.is_on_link(number);
                wait(peer, Time::MAX, over).await;
                continue;
            }
            if !proven {
                proven = true;
                pause = Pause::new();
                candidates.settled(at, now);
            }
            match candidates.better_than(at, now) {
                Some(better) => {
                    if let Err(error) = conversation::dial_again(peer, better, &peer.dialled[better]).await {
                        tracing::debug!(%error, node = peer.identity.node, "no better link");
                    }
                }
                None => {
                    let until = candidates.when_to_look(at).unwrap_or(Time::MAX);
                    wait(peer, until, move |peer| !peer.is_on_link(number)).await;
                }
            }
        }
        if let Some((at, since, number)) = known
            && !peer.is_on_link(number)
        {
            candidates.link_lost(at, since, proven, node.now());
            (known, proven) = (None, false);
        }
        if peer.has_link() || !needs_keeper(peer) {
            continue;
        }
        let refused = match dial_round(peer, &candidates).await {
            Round::Over => {
                refusals.answered();
                continue;
            }
            Round::Failed { refused } => refused,
        };
        // Whoever is heard elsewhere lives, whatever is said in its host's name.
        let is_gone = refused.is_some() && !node.hears(&peer.identity);
        if let Some(lasted) = refusals.round(is_gone, node.now()) {
            let why = Ended::Gone {
                address: refused.unwrap_or_default(),
                refused: lasted,
            };
            node.end_incarnation(&peer.identity, &why);
            continue;
        }
        let until = node.surroundings.after(&mut pause);
        let until = refusals.due().map_or(until, |due| until.min(due));
        wait(peer, until, |_| false).await;
    }
}

/// What came of dialling each address once.
enum Round {
    /// The session has a link, or is over.
    Over,
    /// It has none yet. At this address, where the peer's process listened, its host has refused, and nobody has answered at any.
    Failed { refused: Option<String> },
}

/// Dials each address once, until one answers.
async fn dial_round(peer: &Arc<PeerInner>, candidates: &Candidates) -> Round {
    let (mut refused, mut answered) = (None, false);
    for at in candidates.in_order(peer.node.now()) {
        let mut address = peer.dialled[at].clone();
        let listens_at = peer.listens_at(at);
        loop {
            let error = match conversation::dial_again(peer, at, &address).await {
                Ok(()) => return Round::Over,
                Err(error) => error,
            };
            if error.is_unknown_session() {
                let mut receive = peer.receive_side();
                peer.end(&mut receive, Ended::Forgotten);
                return Round::Over;
            }
            tracing::debug!(%error, node = peer.identity.node, "dialling again failed");
            if is_over(peer) {
                return Round::Over;
            }
            answered |= error.has_answered();
            match &listens_at {
                // What a name stands for may have changed, or it stands for several.
                Some(own) if *own != address && !error.has_answered() => address.clone_from(own),
                Some(_) if error.is_refusal() => {
                    refused = Some(address);
                    break;
                }
                _ => break,
            }
        }
    }
    Round::Failed {
        refused: refused.filter(|_| !answered),
    }
}

/// Waits until something holds of the session, it is over, or a time has come.
async fn wait(peer: &Arc<PeerInner>, until: Time, over: impl Fn(&PeerInner) -> bool + Send + Sync) {
    let over = || is_over(peer) || over(peer);
    peer.node
        .surroundings
        .wait(&peer.link_changed, until, &over)
        .await;
}

/// How long one attempt at one of the session's addresses may take, so that each is tried within the resume window.
pub(crate) fn patience(peer: &PeerInner) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(500);
    let window = peer.node.timing().resume_window;
    let attempts = 2 * peer.dialled.len().max(1) as u32;
    (window / attempts).max(SHORTEST.min(window)).min(PATIENCE)
}

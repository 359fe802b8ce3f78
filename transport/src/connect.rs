//! Making links: dialling, answering, and dialling again. Blocking, on threads of their own or the caller's, each step
//! bounded by a deadline, so that a silent or hostile peer holds up nobody else.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::frame::Integrity;
use crate::handshake::{self, Agreement, Answering, Dialing, HandshakeError, Refusal, Wanted};
use crate::link::{LinkError, LinkMemory, TransportError, Wire};
use crate::node::{NodeError, NodeInner, find_transport};
use crate::peer::{NewSession, PeerInner, Suspension};
use crate::session::Ended;
use crate::wait::lock;

/// How long a handshake may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Handshakes of peers that dialled which may run at once; more are turned away.
const MAX_HANDSHAKES: usize = 64;
/// The pause before dialling again; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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
    /// This node has as many peers as it may.
    #[error("this node has {max} peers, as many as it may: NodeBuilder::max_peers")]
    TooManyPeers {
        /// The limit.
        max: usize,
    },
    /// The thread for the handshake could not be started.
    #[error("no thread for the handshake: {0}")]
    NoThread(std::io::Error),
}

fn integrity(agreement: &Agreement) -> Integrity {
    if agreement.checksums {
        Integrity::salted(agreement.salt)
    } else {
        Integrity::None
    }
}

fn room_for_a_peer(node: &NodeInner) -> Result<(), ConnectError> {
    if node.closed.load(Ordering::Acquire) {
        return Err(NodeError::Closed.into());
    }
    if lock(&node.peers).len() >= node.max_peers {
        return Err(ConnectError::TooManyPeers { max: node.max_peers });
    }
    Ok(())
}

/// Turns the errors of one attempt into errors that name the peer.
trait Named<T> {
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

/// Dials the first of the addresses that answers, best first, and makes a new session.
pub(crate) fn connect(node: &Arc<NodeInner>, addresses: &[String]) -> Result<Arc<PeerInner>, ConnectError> {
    let mut last = ConnectError::NoAddress;
    for at in 0..addresses.len() {
        match connect_at(node, addresses, at) {
            Ok(peer) => {
                look_for_better(&peer);
                return Ok(peer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_at(
    node: &Arc<NodeInner>,
    addresses: &[String],
    at: usize,
) -> Result<Arc<PeerInner>, ConnectError> {
    let address = &addresses[at];
    room_for_a_peer(node)?;
    let deadline = Instant::now() + PATIENCE;
    let (transport, rest) = find_transport(&node.transports, address)?;
    let mut wire = transport.dial(rest, deadline)?;
    let peer = wire.peer();
    let (mut dialing, hello) = Dialing::start(&node.secret, &node.identity, Wanted::New).named(&peer)?;
    wire.send(&hello, deadline).named(&peer)?;
    let agreement = dialing
        .welcomed(&wire.receive(deadline).named(&peer)?)
        .named(&peer)?;
    let receive = wire.receive_memory(&node.identity.sizes).named(&peer)?;
    let offer = wire.offer(&receive).named(&peer)?;
    wire.send(&dialing.confirm(&offer), deadline).named(&peer)?;
    let (offer, from) = dialing
        .ready(&wire.receive(deadline).named(&peer)?)
        .named(&peer)?;
    let send = wire.send_memory(&agreement.peer.sizes, &offer).named(&peer)?;
    wire.send(&dialing.start_message(), deadline).named(&peer)?;
    let memory = LinkMemory {
        send: send.rings,
        receive,
    };
    let link = wire.link(&memory, &offer, from).named(&peer)?;
    let peer = PeerInner::new(
        node.clone(),
        NewSession {
            integrity: integrity(&agreement),
            identity: agreement.peer,
            session_id: agreement.session,
            dialled: addresses.to_vec(),
            dialled_at: at,
            memory,
            cells: send.cells,
            scheme: transport.scheme(),
            link,
        },
    );
    node.add_peer(peer.clone());
    Ok(peer)
}

/// As [`connect`], on a thread of its own.
pub(crate) async fn connect_async(
    node: &Arc<NodeInner>,
    addresses: Vec<String>,
) -> Result<Arc<PeerInner>, ConnectError> {
    type Slot = Mutex<(Option<Result<Arc<PeerInner>, ConnectError>>, Option<Waker>)>;
    let slot: Arc<Slot> = Arc::default();
    thread::Builder::new()
        .name("connect".into())
        .spawn({
            let (slot, node) = (slot.clone(), node.clone());
            move || {
                let result = connect(&node, &addresses);
                let waker = {
                    let mut slot = lock(&slot);
                    slot.0 = Some(result);
                    slot.1.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        })
        .map_err(ConnectError::NoThread)?;
    poll_fn(|context| {
        let mut slot = lock(&slot);
        match slot.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// Dials again and again, the best address first, until the session goes on or is over.
pub(crate) fn resume(peer: &Arc<PeerInner>) {
    let _one_at_a_time = lock(&peer.dialling);
    let mut pause = FIRST_PAUSE;
    while !is_over(peer) && !peer.is_connected() {
        for at in 0..peer.dialled.len() {
            match try_resume(peer, at) {
                Ok(()) => {
                    look_for_better(peer);
                    return;
                }
                Err(ConnectError::Handshake {
                    source: HandshakeError::Refused(Refusal::UnknownSession),
                    ..
                }) => {
                    let mut receive = peer.receive_side();
                    peer.end(&mut receive, Ended::Forgotten);
                    return;
                }
                Err(error) => tracing::debug!(%error, node = peer.identity.node, "dialling again failed"),
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_over(peer: &PeerInner) -> bool {
    peer.ended().is_some() || peer.node.closed.load(Ordering::Acquire)
}

/// Where a session runs over a link that is not the best it may use, tries the better ones now and then, on a thread
/// of its own that ends when the best carries the session, or the session is over.
fn look_for_better(peer: &Arc<PeerInner>) {
    let best = |peer: &PeerInner| peer.dialled_at.load(Ordering::Acquire) == 0;
    if best(peer) || peer.is_shared() || peer.looking.swap(true, Ordering::AcqRel) {
        return;
    }
    let looking = thread::Builder::new().name("better link".into()).spawn({
        let peer = peer.clone();
        move || {
            while !is_over(&peer) && !best(&peer) {
                thread::sleep(peer.node.timing().better_link);
                let one_at_a_time = lock(&peer.dialling);
                // Without a link, somebody is about to dial, the best address first.
                if is_over(&peer) || !peer.is_connected() {
                    continue;
                }
                let mut better = 0..peer.dialled_at.load(Ordering::Acquire);
                let found = better.any(|at| try_resume(&peer, at).is_ok());
                drop(one_at_a_time);
                if !found && !peer.is_connected() {
                    resume(&peer);
                }
            }
            peer.looking.store(false, Ordering::Release);
            // Whoever moved to a lesser link just now saw this thread still looking.
            if !is_over(&peer) {
                look_for_better(&peer);
            }
        }
    });
    if let Err(error) = looking {
        peer.looking.store(false, Ordering::Release);
        tracing::warn!(%error, "no thread to look for a better link");
    }
}

/// How long one attempt at one of the session's addresses may take, so that each is tried within the resume window.
fn patience(peer: &PeerInner) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(500);
    let attempts = 2 * peer.dialled.len().max(1) as u32;
    (peer.node.timing().resume_window / attempts).clamp(SHORTEST, PATIENCE)
}

/// Changes the session to a link dialled at one of its addresses. The old link, if there still is one, is given up
/// only when the new one has got as far as the device and the peer's socket.
fn try_resume(peer: &Arc<PeerInner>, at: usize) -> Result<(), ConnectError> {
    let node = &peer.node;
    let deadline = Instant::now() + patience(peer);
    let (transport, rest) = find_transport(&node.transports, &peer.dialled[at])?;
    let mut wire = transport.dial(rest, deadline)?;
    let name = wire.peer();
    let own_offer = wire.offer(&peer.memory.receive).named(&name)?;
    let suspension = peer.suspend();
    let wanted = Wanted::Resume {
        session: peer.session_id,
        consumed: suspension.consumed,
    };
    let (mut dialing, hello) = Dialing::start(&node.secret, &node.identity, wanted).named(&name)?;
    wire.send(&hello, deadline).named(&name)?;
    let agreement = dialing
        .welcomed(&wire.receive(deadline).named(&name)?)
        .named(&name)?;
    if agreement.session != peer.session_id || agreement.peer.incarnation != peer.identity.incarnation {
        let source = HandshakeError::Refused(Refusal::UnknownSession);
        return Err(ConnectError::Handshake { peer: name, source });
    }
    wire.send(&dialing.confirm(&own_offer), deadline).named(&name)?;
    let (offer, from) = dialing
        .ready(&wire.receive(deadline).named(&name)?)
        .named(&name)?;
    wire.send(&dialing.start_message(), deadline).named(&name)?;
    let link = wire.link(&peer.memory, &offer, from).named(&name)?;
    peer.dialled_at.store(at, Ordering::Release);
    finish_resume(peer, &suspension, transport.scheme(), link, from)
}

fn finish_resume(
    peer: &Arc<PeerInner>,
    suspension: &Suspension,
    scheme: &str,
    link: crate::link::Link,
    from: [u64; crate::lane::LANES],
) -> Result<(), ConnectError> {
    if let Err(violation) = peer.resume(suspension, scheme, link, from) {
        let mut receive = peer.receive_side();
        peer.end(&mut receive, Ended::Violation(violation));
    }
    peer.node.wake();
    Ok(())
}

/// Answers somebody who dialled, on a thread of its own.
pub(crate) fn answer(node: &Arc<NodeInner>, scheme: &'static str, wire: Box<dyn Wire>) {
    let name = wire.peer();
    if node.handshakes.fetch_add(1, Ordering::AcqRel) >= MAX_HANDSHAKES {
        node.handshakes.fetch_sub(1, Ordering::AcqRel);
        let cause = format!("{MAX_HANDSHAKES} handshakes are running already");
        node.events.tell(Event::HandshakeFailed { peer: name, cause });
        return;
    }
    let answering = thread::Builder::new().name("answer".into()).spawn({
        let node = node.clone();
        move || {
            let deadline = Instant::now() + PATIENCE;
            let answered = greet(&node, scheme, wire, &name, deadline);
            if let Err(error) = answered {
                node.events.tell(Event::HandshakeFailed {
                    peer: name,
                    cause: error.to_string(),
                });
            }
            node.handshakes.fetch_sub(1, Ordering::AcqRel);
        }
    });
    if let Err(error) = answering {
        node.handshakes.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!(%error, "no thread to answer a peer");
    }
}

fn greet(
    node: &Arc<NodeInner>,
    scheme: &'static str,
    mut wire: Box<dyn Wire>,
    name: &str,
    deadline: Instant,
) -> Result<(), ConnectError> {
    let hello = wire.receive(deadline).named(name)?;
    match Answering::hello(&node.secret, &node.identity, &hello) {
        Ok(answering) => converse(node, scheme, wire, answering, name, deadline),
        Err(error) => {
            let refusal = if let HandshakeError::Refusing(refusal) = error {
                refusal
            } else {
                Refusal::Malformed
            };
            let _ = wire.send(&handshake::refuse(refusal), deadline);
            Err(error).named(name)
        }
    }
}

fn converse(
    node: &Arc<NodeInner>,
    scheme: &'static str,
    mut wire: Box<dyn Wire>,
    mut answering: Answering,
    name: &str,
    deadline: Instant,
) -> Result<(), ConnectError> {
    let session = match answering.wanted() {
        Wanted::New => None,
        Wanted::Resume { session, .. } => {
            let known = lock(&node.peers)
                .iter()
                .find(|peer| {
                    peer.session_id == session
                        && peer.dialled.is_empty()
                        && !peer.is_shared()
                        && peer.identity.node == answering.peer().node
                        && peer.identity.incarnation == answering.peer().incarnation
                })
                .cloned();
            if known.is_none() {
                let _ = wire.send(&handshake::refuse(Refusal::UnknownSession), deadline);
                return Err(HandshakeError::Refusing(Refusal::UnknownSession)).named(name);
            }
            known
        }
    };
    if session.is_none()
        && let Err(error) = room_for_a_peer(node)
    {
        let _ = wire.send(&handshake::refuse(Refusal::Busy), deadline);
        return Err(error);
    }
    let (number, salt) = match &session {
        Some(peer) => (peer.session_id, 0),
        None => {
            let number = u128::from_le_bytes(handshake::random().named(name)?).max(1);
            (number, u64::from_le_bytes(handshake::random().named(name)?))
        }
    };
    let (agreement, welcome) = answering.welcome(number, salt).named(name)?;
    wire.send(&welcome, deadline).named(name)?;
    let their_offer = answering
        .confirmed(&wire.receive(deadline).named(name)?)
        .named(name)?;
    let from = agreement.peer_consumed;
    match session {
        Some(peer) => {
            // Known now: only from here on may the old link be touched.
            let suspension = peer.suspend();
            let offer = wire.offer(&peer.memory.receive).named(name)?;
            wire.send(&answering.ready(&offer, &suspension.consumed), deadline)
                .named(name)?;
            answering
                .started(&wire.receive(deadline).named(name)?)
                .named(name)?;
            let link = wire.link(&peer.memory, &their_offer, from).named(name)?;
            finish_resume(&peer, &suspension, scheme, link, from)
        }
        None => {
            let receive = wire.receive_memory(&node.identity.sizes).named(name)?;
            let offer = wire.offer(&receive).named(name)?;
            wire.send(&answering.ready(&offer, &[0; crate::lane::LANES]), deadline)
                .named(name)?;
            let send = wire
                .send_memory(&agreement.peer.sizes, &their_offer)
                .named(name)?;
            answering
                .started(&wire.receive(deadline).named(name)?)
                .named(name)?;
            let memory = LinkMemory {
                send: send.rings,
                receive,
            };
            let link = wire.link(&memory, &their_offer, from).named(name)?;
            let integrity = integrity(&agreement);
            node.add_peer(PeerInner::new(
                node.clone(),
                NewSession {
                    identity: agreement.peer,
                    session_id: agreement.session,
                    integrity,
                    dialled: Vec::new(),
                    dialled_at: 0,
                    memory,
                    cells: send.cells,
                    scheme,
                    link,
                },
            ));
            Ok(())
        }
    }
}

//! The conversations that make a link: what either side says, in which order, and what it does to the session between
//! two messages. See `docs/PROTOCOL.md`, "Handshake" and "Resume".
//!
//! Neither side touches a session for somebody who has not proven the secret, and neither gives up the link that the
//! session has before then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::answer::Guest;
use crate::breakage::{Breakage, is_broken};
use crate::connect::{ConnectError, Named, patience};
use crate::frame::Integrity;
use crate::handshake::{
    self, Agreement, Answering, Dialing, HandshakeError, Identity, Refusal, Terms, Wanted,
};
use crate::lane::LANES;
use crate::link::{Ends, Link, LinkError, LinkMemory, Wire};
use crate::node::{NodeInner, find_transport};
use crate::peer::{NewSession, PeerInner, Suspension};
use crate::place::{NoPlace, Places};
use crate::session::{Ended, Time};
use crate::wait::lock;

/// A wire, who is at the other end, and until when the conversation has to be over.
struct Talk<'t> {
    node: &'t NodeInner,
    wire: Box<dyn Wire>,
    peer: String,
    until: Time,
}

impl<'t> Talk<'t> {
    fn dial(
        node: &'t NodeInner,
        address: &str,
        patience: Duration,
    ) -> Result<(Talk<'t>, &'static str), ConnectError> {
        let until = node.now() + patience;
        let (transport, rest) = find_transport(&node.transports, address)?;
        let wire = transport.dial(rest, node.surroundings.instant(until))?;
        Ok((Talk::over(node, wire, until), transport.scheme()))
    }

    fn over(node: &'t NodeInner, wire: Box<dyn Wire>, until: Time) -> Talk<'t> {
        let peer = wire.peer();
        Talk {
            node,
            wire,
            peer,
            until,
        }
    }

    fn say(&mut self, message: &[u8]) -> Result<(), ConnectError> {
        let deadline = self.node.surroundings.instant(self.until);
        self.wire.send(message, deadline).named(&self.peer)
    }

    async fn hear(&mut self) -> Result<Vec<u8>, ConnectError> {
        self.hear_until(self.until).await
    }

    async fn hear_until(&mut self, until: Time) -> Result<Vec<u8>, ConnectError> {
        let heard = self.node.surroundings.hear(&mut *self.wire, until).await;
        heard.named(&self.peer)
    }

    /// Says what it may not have heard to the end: somebody who turns us away does not wait for what we say, and may be gone.
    fn greet(&mut self, hello: &[u8]) -> Result<(), ConnectError> {
        match self.say(hello) {
            Err(ConnectError::Link {
                source: LinkError::Closed,
                ..
            }) => Ok(()),
            said => said,
        }
    }

    /// Says that there is no place.
    fn turn_away(&mut self, none: NoPlace) -> ConnectError {
        let _ = self.say(&handshake::refuse(none.refusal));
        none.error
    }

    /// Says no, and returns why as an error.
    fn refuse<T>(&mut self, refusal: Refusal) -> Result<T, ConnectError> {
        let _ = self.say(&handshake::refuse(refusal));
        Err(HandshakeError::Refusing(refusal)).named(&self.peer)
    }

    /// Where the listener's own process listens: known when both sides see the same connection.
    fn listener(&self, scheme: &str, told: Option<&Ends>) -> Option<String> {
        let (ours, theirs) = (self.wire.ends()?, told?);
        let is_one = ours.meet(theirs) || is_broken(Breakage::BelievesEveryRefusal);
        is_one.then(|| format!("{scheme}://{}", ours.peer))
    }

    fn link(self, memory: &LinkMemory, theirs: &Terms) -> Result<Link, ConnectError> {
        let Talk { wire, peer, .. } = self;
        wire.link(memory, &theirs.offer, theirs.consumed).named(&peer)
    }
}

fn integrity(agreement: &Agreement) -> Integrity {
    if agreement.checksums {
        Integrity::salted(agreement.salt)
    } else {
        Integrity::None
    }
}

// The side that dials.

/// Makes a new session with the node at one of the addresses.
pub(crate) async fn dial(
    node: &Arc<NodeInner>,
    addresses: &[String],
    at: usize,
    patience: Duration,
) -> Result<Arc<PeerInner>, ConnectError> {
    Places::look(node, None).map_err(|none| none.error)?;
    let (mut talk, scheme) = Talk::dial(node, &addresses[at], patience)?;
    let nonce = node.surroundings.random().named(&talk.peer)?;
    let (mut dialing, hello) = Dialing::start(&node.secret, &node.identity, Wanted::New, &nonce);
    talk.greet(&hello)?;
    let agreement = dialing.welcomed(&talk.hear().await?).named(&talk.peer)?;
    let _place = Places::keep(node, &agreement.peer).map_err(|none| none.error)?;
    let receive = talk.wire.receive_memory(&node.identity.sizes).named(&talk.peer)?;
    let ours = Terms {
        consumed: [0; LANES],
        offer: talk.wire.offer(&receive).named(&talk.peer)?,
    };
    talk.say(&dialing.confirm(&ours))?;
    let (theirs, told) = dialing.ready(&talk.hear().await?).named(&talk.peer)?;
    let listens_at = talk.listener(scheme, told.as_ref());
    let send = talk
        .wire
        .send_memory(&agreement.peer.sizes, &theirs.offer)
        .named(&talk.peer)?;
    talk.say(&dialing.start_message())?;
    let memory = LinkMemory {
        send: send.rings,
        receive,
    };
    let from_the_start = Terms {
        consumed: [0; LANES],
        ..theirs
    };
    let link = talk.link(&memory, &from_the_start)?;
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
            scheme,
            link,
        },
    );
    peer.found_listening(at, listens_at);
    node.add_peer(peer.clone());
    Ok(peer)
}

/// Brings a session to a link dialled at `address`, which is one of its addresses or what that one stands for. The link that it has
/// is given up when the peer has proven the secret, agreed to go on, and there is a device for the new link; not before.
pub(crate) async fn dial_again(peer: &Arc<PeerInner>, at: usize, address: &str) -> Result<(), ConnectError> {
    let node = &peer.node;
    let (mut talk, scheme) = Talk::dial(node, address, patience(peer))?;
    let offer = talk.wire.offer(&peer.memory.receive).named(&talk.peer)?;
    let nonce = node.surroundings.random().named(&talk.peer)?;
    let wanted = Wanted::Resume(peer.session_id);
    let (mut dialing, hello) = Dialing::start(&node.secret, &node.identity, wanted, &nonce);
    talk.greet(&hello)?;
    let agreement = dialing.welcomed(&talk.hear().await?).named(&talk.peer)?;
    if agreement.session != peer.session_id || !agreement.peer.is_same_node(&peer.identity) {
        return Err(HandshakeError::Refused(Refusal::UnknownSession)).named(&talk.peer);
    }
    let suspension = peer.suspend();
    let ours = Terms {
        consumed: suspension.consumed,
        offer,
    };
    talk.say(&dialing.confirm(&ours))?;
    let (theirs, told) = dialing.ready(&talk.hear().await?).named(&talk.peer)?;
    peer.found_listening(at, talk.listener(scheme, told.as_ref()));
    talk.say(&dialing.start_message())?;
    let mut from = theirs.clone();
    if is_broken(Breakage::PushesFromTheWrongPosition) {
        from.consumed = std::array::from_fn(|lane| peer.send.rings[lane].released());
    }
    let link = talk.link(&peer.memory, &from)?;
    peer.dialled_at.store(at, Ordering::Release);
    go_on(peer, &suspension, scheme, link, &theirs);
    Ok(())
}

fn go_on(peer: &Arc<PeerInner>, suspension: &Suspension, scheme: &str, link: Link, theirs: &Terms) {
    if let Err(violation) = peer.resume(suspension, scheme, link, theirs.consumed) {
        let mut receive = peer.receive_side();
        peer.end(&mut receive, Ended::Violation(violation));
    }
    peer.node.wake();
}

// The side that is dialled.

/// Hears a guest out, and makes or resumes a session if it is a member of the cluster.
pub(crate) async fn answer(
    node: &Arc<NodeInner>,
    scheme: &'static str,
    wire: Box<dyn Wire>,
    guest: &Guest,
) -> Result<(), ConnectError> {
    let until = node.now() + node.surroundings.patience();
    let mut talk = Talk::over(node, wire, until);
    let hello = talk.hear_until(until.min(node.now() + Guest::FIRST_WORD)).await?;
    guest.has_spoken();
    let answering = match Answering::hello(&node.secret, &node.identity, &hello) {
        Ok(answering) => answering,
        Err(HandshakeError::Refusing(refusal)) => return talk.refuse(refusal),
        Err(error) => {
            let _ = talk.say(&handshake::refuse(Refusal::Malformed));
            return Err(error).named(&talk.peer);
        }
    };
    match answering.wanted() {
        Wanted::New => welcome(node, scheme, talk, answering, guest).await,
        Wanted::Resume(session) => match find_session(node, session, answering.peer()) {
            Some(peer) => welcome_back(&peer, scheme, talk, answering, guest).await,
            None => talk.refuse(Refusal::UnknownSession),
        },
    }
}

/// The session of this number, if it lives and was dialled by this node in this incarnation.
fn find_session(node: &NodeInner, session: u128, dialer: &Identity) -> Option<Arc<PeerInner>> {
    lock(&node.peers)
        .iter()
        .find(|peer| {
            peer.session_id == session
                && peer.dialled.is_empty()
                && !peer.is_shared()
                && peer.identity.is_same_node(dialer)
        })
        .cloned()
}

async fn welcome(
    node: &Arc<NodeInner>,
    scheme: &'static str,
    mut talk: Talk<'_>,
    mut answering: Answering,
    guest: &Guest,
) -> Result<(), ConnectError> {
    Places::look(node, Some(answering.peer())).map_err(|none| talk.turn_away(none))?;
    let random = &node.surroundings;
    let number = u128::from_le_bytes(random.random().named(&talk.peer)?).max(1);
    let salt = u64::from_le_bytes(random.random().named(&talk.peer)?);
    let nonce = random.random().named(&talk.peer)?;
    let (agreement, welcome) = answering.welcome(number, salt, &nonce);
    talk.say(&welcome)?;
    let theirs = answering.confirmed(&talk.hear().await?).named(&talk.peer)?;
    guest.is_member();
    let _place = Places::keep(node, &agreement.peer).map_err(|none| talk.turn_away(none))?;
    let receive = talk.wire.receive_memory(&node.identity.sizes).named(&talk.peer)?;
    let ours = Terms {
        consumed: [0; LANES],
        offer: talk.wire.offer(&receive).named(&talk.peer)?,
    };
    talk.say(&answering.ready(&ours, talk.wire.ends().as_ref()))?;
    let send = talk
        .wire
        .send_memory(&agreement.peer.sizes, &theirs.offer)
        .named(&talk.peer)?;
    answering.started(&talk.hear().await?).named(&talk.peer)?;
    let memory = LinkMemory {
        send: send.rings,
        receive,
    };
    let from_the_start = Terms {
        consumed: [0; LANES],
        ..theirs
    };
    let link = talk.link(&memory, &from_the_start)?;
    node.add_peer(PeerInner::new(
        node.clone(),
        NewSession {
            integrity: integrity(&agreement),
            identity: agreement.peer,
            session_id: agreement.session,
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

async fn welcome_back(
    peer: &Arc<PeerInner>,
    scheme: &'static str,
    mut talk: Talk<'_>,
    mut answering: Answering,
    guest: &Guest,
) -> Result<(), ConnectError> {
    let nonce = peer.node.surroundings.random().named(&talk.peer)?;
    let (_, welcome) = answering.welcome(peer.session_id, 0, &nonce);
    talk.say(&welcome)?;
    let theirs = answering.confirmed(&talk.hear().await?).named(&talk.peer)?;
    guest.is_member();
    let offer = talk.wire.offer(&peer.memory.receive).named(&talk.peer)?;
    // The dialer has proven the secret: only from here on may the old link be touched.
    let suspension = peer.suspend();
    let ours = Terms {
        consumed: suspension.consumed,
        offer,
    };
    talk.say(&answering.ready(&ours, talk.wire.ends().as_ref()))?;
    answering.started(&talk.hear().await?).named(&talk.peer)?;
    let link = talk.link(&peer.memory, &theirs)?;
    go_on(peer, &suspension, scheme, link, &theirs);
    Ok(())
}

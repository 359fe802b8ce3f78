//! The handshake: who are you, do you know the secret, which session, which rings. See `docs/PROTOCOL.md`, "Handshake".
//!
//! Sans-IO: messages in, messages out; no socket, no clock. Five messages:
//!
//! ```text
//! dialer                              listener
//!   Hello     who, nonce, session? -->
//!             <-- Welcome (proof)     who, nonce, session, salt   or  Refused
//!   Confirm (proof) link offer     -->
//!             <-- Ready (proof)       link offer, positions
//!   Start (proof)                  -->
//! ```
//!
//! A proof is HMAC-SHA-256 under the cluster's secret over the role's label and the hash of everything said so far.
//! The secret never travels; fresh nonces on both sides defeat replay, the label defeats reflection; proofs are
//! compared in constant time. The link offers are inside the proofs. What follows the handshake is neither encrypted
//! nor authenticated: run it on a network that you trust with the bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::codec::{DecodeError, Reader, Writer};
use crate::lane::{LANES, LaneSizes};
use crate::ring::Position;

/// The protocol version that this library speaks.
pub const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"MRNG";
const NONCE: usize = 32;
const PROOF: usize = 32;

/// Capability bit: frames must carry checksums.
pub const CAPABILITY_CHECKSUMS: u32 = 1;

/// The longest node or cluster name, in bytes of UTF-8.
pub const MAX_NAME: usize = 255;

/// The secret that the nodes of a cluster share.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The fewest bytes that a secret may have.
    pub const MIN: usize = 16;

    /// A secret of at least [`Secret::MIN`] bytes; `None` if it is shorter.
    pub fn new(bytes: &[u8]) -> Option<Secret> {
        (bytes.len() >= Secret::MIN).then(|| Secret(bytes.to_vec()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name: nodes of different clusters refuse each other.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Drawn afresh at every start of the node.
    pub incarnation: u64,
    /// Capacities of the rings in which this node receives.
    pub sizes: LaneSizes,
    /// Capability bits.
    pub capabilities: u32,
}

/// Which session the dialer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A new one.
    New,
    /// To go on with this one; the positions are what the dialer has consumed.
    Resume {
        /// The session's number.
        session: u128,
        /// Consumed by the dialer, by lane.
        consumed: [Position; LANES],
    },
}

/// What both sides know after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The peer's identity.
    pub peer: Identity,
    /// The session's number.
    pub session: u128,
    /// The salt of the session's checksums.
    pub salt: u64,
    /// Whether frames carry checksums.
    pub checksums: bool,
    /// What the peer has consumed of this side's rings, by lane: where to push from.
    pub peer_consumed: [Position; LANES],
}

/// Why a listener turned a dialer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// No common version.
    #[error("the versions have nothing in common")]
    Version = 1,
    /// Another cluster.
    #[error("the node belongs to another cluster")]
    Cluster = 2,
    /// The proof did not hold.
    #[error("the secret does not match")]
    Secret = 3,
    /// The session is over, or belonged to an earlier incarnation.
    #[error("the session is unknown: it ended, or the node was restarted")]
    UnknownSession = 4,
    /// The node has as many peers as it may.
    #[error("the node has as many peers as it allows")]
    Busy = 5,
    /// The rings asked for are not allowed.
    #[error("the ring sizes are not powers of two within the limits")]
    RingSizes = 6,
    /// The message made no sense.
    #[error("the handshake was malformed")]
    Malformed = 7,
}

impl Refusal {
    fn from_wire(byte: u8) -> Result<Refusal, DecodeError> {
        Ok(match byte {
            1 => Refusal::Version,
            2 => Refusal::Cluster,
            3 => Refusal::Secret,
            4 => Refusal::UnknownSession,
            5 => Refusal::Busy,
            6 => Refusal::RingSizes,
            7 => Refusal::Malformed,
            other => {
                return Err(DecodeError::Unknown {
                    field: "refusal",
                    value: u64::from(other),
                });
            }
        })
    }
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer turned us away.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// We turn the peer away.
    #[error("refused the peer: {0}")]
    Refusing(Refusal),
    /// The peer does not know the secret.
    #[error("the peer does not know the cluster's secret")]
    WrongSecret,
    /// The peer answers with something that this protocol does not say.
    #[error("not this protocol: {0}")]
    Malformed(#[from] DecodeError),
    /// The first bytes are not this protocol's.
    #[error("not this protocol: the message starts with {found:02x?}")]
    NotThisProtocol {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    NoRandomness(String),
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WELCOME: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const READY: u8 = 5;
    pub(super) const START: u8 = 6;
}

/// Fresh random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], HandshakeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| HandshakeError::NoRandomness(error.to_string()))?;
    Ok(bytes)
}

/// The running hash of what was said, and the proofs over it.
struct Transcript {
    secret: Secret,
    hash: [u8; 32],
}

impl Transcript {
    fn new(secret: &Secret) -> Transcript {
        Transcript {
            secret: secret.clone(),
            hash: [0; 32],
        }
    }

    fn absorb(&mut self, content: &[u8]) {
        self.hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(content)
            .finalize()
            .into();
    }

    fn proof(&self, label: &str) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.secret.0)
            .expect("HMAC takes keys of any length")
            .chain_update(label.as_bytes())
            .chain_update(self.hash)
    }

    /// Appends the proof of everything so far, `content` included.
    fn seal(&mut self, label: &str, mut content: Vec<u8>) -> Vec<u8> {
        self.absorb(&content);
        content.extend_from_slice(&self.proof(label).finalize().into_bytes());
        content
    }

    /// Takes the proof off and checks it.
    fn open<'m>(&mut self, label: &str, message: &'m [u8]) -> Result<&'m [u8], HandshakeError> {
        let Some(len) = message.len().checked_sub(PROOF) else {
            return Err(DecodeError::Truncated {
                missing: PROOF - message.len(),
            }
            .into());
        };
        let (content, proof) = message.split_at(len);
        self.absorb(content);
        let expected = self.proof(label).finalize().into_bytes();
        if bool::from(expected.as_slice().ct_eq(proof)) {
            Ok(content)
        } else {
            Err(HandshakeError::WrongSecret)
        }
    }
}

const BY_LISTENER: &str = "mirrored-ring listener";
const BY_DIALER: &str = "mirrored-ring dialer";

fn expect_kind(reader: &mut Reader<'_>, kind: u8, field: &'static str) -> Result<(), DecodeError> {
    match reader.u8()? {
        found if found == kind => Ok(()),
        found => Err(DecodeError::Unknown {
            field,
            value: u64::from(found),
        }),
    }
}

fn write_sizes(writer: Writer, sizes: &LaneSizes) -> Writer {
    writer
        .bytes(&sizes.control.to_le_bytes())
        .bytes(&sizes.ordinary.to_le_bytes())
        .bytes(&sizes.large.to_le_bytes())
}

fn read_sizes(reader: &mut Reader<'_>) -> Result<LaneSizes, DecodeError> {
    Ok(LaneSizes {
        control: reader.u32()?,
        ordinary: reader.u32()?,
        large: reader.u32()?,
    })
}

fn read_positions(reader: &mut Reader<'_>) -> Result<[Position; LANES], DecodeError> {
    Ok([reader.u64()?, reader.u64()?, reader.u64()?])
}

fn write_positions(writer: Writer, positions: &[Position; LANES]) -> Writer {
    positions
        .iter()
        .fold(writer, |writer, position| writer.bytes(&position.to_le_bytes()))
}

/// The message that turns a dialer away.
pub fn refuse(refusal: Refusal) -> Vec<u8> {
    Writer::new().bytes(&[kind::REFUSED, refusal as u8]).finish()
}

/// The dialer's side.
pub struct Dialing {
    transcript: Transcript,
    own: Identity,
}

impl Dialing {
    /// Starts: the first message to send.
    ///
    /// # Errors
    /// [`HandshakeError::NoRandomness`].
    pub fn start(
        secret: &Secret,
        own: &Identity,
        wanted: Wanted,
    ) -> Result<(Dialing, Vec<u8>), HandshakeError> {
        let (session, consumed) = match wanted {
            Wanted::New => (0, [0; LANES]),
            Wanted::Resume { session, consumed } => (session, consumed),
        };
        let hello = Writer::new()
            .bytes(&[kind::HELLO])
            .bytes(&MAGIC)
            .bytes(&VERSION.to_le_bytes())
            .bytes(&VERSION.to_le_bytes())
            .bytes(&own.capabilities.to_le_bytes())
            .text(&own.cluster)
            .text(&own.node)
            .bytes(&own.incarnation.to_le_bytes())
            .bytes(&random::<NONCE>()?);
        let hello = write_positions(
            write_sizes(hello, &own.sizes).bytes(&session.to_le_bytes()),
            &consumed,
        )
        .finish();
        let mut transcript = Transcript::new(secret);
        transcript.absorb(&hello);
        Ok((
            Dialing {
                transcript,
                own: own.clone(),
            },
            hello,
        ))
    }

    /// Takes the listener's answer.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::WrongSecret`], or malformed.
    pub fn welcomed(&mut self, message: &[u8]) -> Result<Agreement, HandshakeError> {
        if let [kind::REFUSED, refusal, ..] = message {
            return Err(HandshakeError::Refused(Refusal::from_wire(*refusal)?));
        }
        let mut reader = Reader::new(self.transcript.open(BY_LISTENER, message)?);
        expect_kind(&mut reader, kind::WELCOME, "answer to Hello")?;
        let version = reader.u16()?;
        if version != VERSION {
            return Err(DecodeError::Unknown {
                field: "protocol version",
                value: u64::from(version),
            }
            .into());
        }
        let capabilities = reader.u32()?;
        let node = reader.text("node name")?;
        let incarnation = reader.u64()?;
        let _nonce: [u8; NONCE] = reader.array()?;
        let sizes = read_sizes(&mut reader)?;
        let session = reader.u128()?;
        let salt = reader.u64()?;
        reader.finish()?;
        if !sizes.are_valid() {
            return Err(HandshakeError::Refusing(Refusal::RingSizes));
        }
        Ok(Agreement {
            checksums: (capabilities | self.own.capabilities) & CAPABILITY_CHECKSUMS != 0,
            peer: Identity {
                cluster: self.own.cluster.clone(),
                node,
                incarnation,
                sizes,
                capabilities,
            },
            session,
            salt,
            peer_consumed: [0; LANES],
        })
    }

    /// Our link offer, to send.
    pub fn confirm(&mut self, offer: &[u8]) -> Vec<u8> {
        self.transcript.seal(
            BY_DIALER,
            Writer::new().bytes(&[kind::CONFIRM]).blob(offer).finish(),
        )
    }

    /// Takes the listener's link offer and what it has consumed of our rings.
    ///
    /// # Errors
    /// [`HandshakeError`] when it is malformed or not the listener's.
    pub fn ready(&mut self, message: &[u8]) -> Result<(Vec<u8>, [Position; LANES]), HandshakeError> {
        if let [kind::REFUSED, refusal, ..] = message {
            return Err(HandshakeError::Refused(Refusal::from_wire(*refusal)?));
        }
        let mut reader = Reader::new(self.transcript.open(BY_LISTENER, message)?);
        expect_kind(&mut reader, kind::READY, "answer to Confirm")?;
        let consumed = read_positions(&mut reader)?;
        let offer = reader.blob()?.to_vec();
        reader.finish()?;
        Ok((offer, consumed))
    }

    /// The last message: the link may be used from now on.
    pub fn start_message(mut self) -> Vec<u8> {
        self.transcript.seal(BY_DIALER, vec![kind::START])
    }
}

/// The listener's side, after a `Hello` that makes sense.
pub struct Answering {
    transcript: Transcript,
    own: Identity,
    peer: Identity,
    wanted: Wanted,
}

impl Answering {
    /// Takes the dialer's first message. An error of the kind [`HandshakeError::Refusing`] is to be sent back.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn hello(secret: &Secret, own: &Identity, message: &[u8]) -> Result<Answering, HandshakeError> {
        let mut reader = Reader::new(message);
        expect_kind(&mut reader, kind::HELLO, "first message").map_err(|_| not_ours(message))?;
        if reader.array::<4>()? != MAGIC {
            return Err(not_ours(&message[1..]));
        }
        let (oldest, newest) = (reader.u16()?, reader.u16()?);
        if oldest > VERSION || newest < VERSION {
            return Err(HandshakeError::Refusing(Refusal::Version));
        }
        let capabilities = reader.u32()?;
        let cluster = reader.text("cluster name")?;
        let node = reader.text("node name")?;
        let incarnation = reader.u64()?;
        let _nonce: [u8; NONCE] = reader.array()?;
        let sizes = read_sizes(&mut reader)?;
        let session = reader.u128()?;
        let consumed = read_positions(&mut reader)?;
        reader.finish()?;
        if cluster != own.cluster {
            return Err(HandshakeError::Refusing(Refusal::Cluster));
        }
        if !sizes.are_valid() {
            return Err(HandshakeError::Refusing(Refusal::RingSizes));
        }
        let mut transcript = Transcript::new(secret);
        transcript.absorb(message);
        Ok(Answering {
            transcript,
            own: own.clone(),
            peer: Identity {
                cluster,
                node,
                incarnation,
                sizes,
                capabilities,
            },
            wanted: if session == 0 {
                Wanted::New
            } else {
                Wanted::Resume { session, consumed }
            },
        })
    }

    /// Who dials.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// Which session the dialer wants. Not yet authenticated: it may be used to look a session up, not to change one.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Accepts: the message to send, and the agreement, which holds once [`Answering::confirmed`] has succeeded.
    ///
    /// # Errors
    /// [`HandshakeError::NoRandomness`].
    pub fn welcome(&mut self, session: u128, salt: u64) -> Result<(Agreement, Vec<u8>), HandshakeError> {
        let welcome = Writer::new()
            .bytes(&[kind::WELCOME])
            .bytes(&VERSION.to_le_bytes())
            .bytes(&self.own.capabilities.to_le_bytes())
            .text(&self.own.node)
            .bytes(&self.own.incarnation.to_le_bytes())
            .bytes(&random::<NONCE>()?);
        let welcome = write_sizes(welcome, &self.own.sizes)
            .bytes(&session.to_le_bytes())
            .bytes(&salt.to_le_bytes());
        let agreement = Agreement {
            peer: self.peer.clone(),
            session,
            salt,
            checksums: (self.peer.capabilities | self.own.capabilities) & CAPABILITY_CHECKSUMS != 0,
            peer_consumed: match self.wanted {
                Wanted::New => [0; LANES],
                Wanted::Resume { consumed, .. } => consumed,
            },
        };
        Ok((agreement, self.transcript.seal(BY_LISTENER, welcome.finish())))
    }

    /// Takes the dialer's proof and link offer: from here on the dialer is known.
    ///
    /// # Errors
    /// [`HandshakeError::WrongSecret`] when it does not know the secret.
    pub fn confirmed(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut reader = Reader::new(self.transcript.open(BY_DIALER, message)?);
        expect_kind(&mut reader, kind::CONFIRM, "answer to Welcome")?;
        let offer = reader.blob()?.to_vec();
        reader.finish()?;
        Ok(offer)
    }

    /// Our link offer and what we have consumed of the dialer's rings, to send.
    pub fn ready(&mut self, offer: &[u8], consumed: &[Position; LANES]) -> Vec<u8> {
        let ready = write_positions(Writer::new().bytes(&[kind::READY]), consumed)
            .blob(offer)
            .finish();
        self.transcript.seal(BY_LISTENER, ready)
    }

    /// Takes the dialer's last message.
    ///
    /// # Errors
    /// [`HandshakeError`] when it is not that.
    pub fn started(mut self, message: &[u8]) -> Result<(), HandshakeError> {
        let mut reader = Reader::new(self.transcript.open(BY_DIALER, message)?);
        expect_kind(&mut reader, kind::START, "last message")?;
        Ok(reader.finish()?)
    }
}

fn not_ours(message: &[u8]) -> HandshakeError {
    HandshakeError::NotThisProtocol {
        found: message[..message.len().min(4)].to_vec(),
    }
}

#[cfg(test)]
mod tests;

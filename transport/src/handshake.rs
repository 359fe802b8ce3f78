//! The handshake: who are you, do you know the secret, which session, which rings. See `docs/PROTOCOL.md`, "Handshake".
//!
//! Sans-IO: messages in, messages out; no socket, no clock. Five messages:
//!
//! ```text
//! dialer                              listener
//!   Hello     who, nonce, session? -->
//!             <-- Welcome (proof)     who, nonce, session, salt   or  Refused
//!   Confirm (proof)                -->
//!             positions, link offer
//!             <-- Ready (proof)       positions, link offer
//!   Start (proof)                  -->
//! ```
//!
//! A proof is HMAC-SHA-256 under the cluster's secret over the role's label and the hash of everything said so far.
//! The secret never travels; fresh nonces on both sides defeat replay, the label defeats reflection; proofs are
//! compared in constant time. The link offers are inside the proofs. What follows the handshake is neither encrypted
//! nor authenticated: run it on a network that you trust with the bytes.

mod answering;
mod dialing;
mod refusal;
mod transcript;

pub use answering::Answering;
pub use dialing::Dialing;
pub use refusal::{Refusal, refuse};

use crate::codec::{DecodeError, Reader, Writer};
use crate::lane::{LANES, LaneSizes};
use crate::link::Ends;
use crate::ring::Position;

/// The oldest protocol version that this library speaks.
pub const OLDEST_VERSION: u16 = 1;
/// The newest protocol version that this library speaks.
pub const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"MRNG";

/// Bytes of a nonce, drawn afresh for every handshake by each side.
pub const NONCE: usize = 32;
/// A nonce.
pub type Nonce = [u8; NONCE];

/// Capability bit: frames must carry checksums.
pub const CAPABILITY_CHECKSUMS: u32 = 1;
/// The capability bit of a node that reads trace contexts: [`crate::trace`].
pub const CAPABILITY_TRACES: u32 = 2;
/// The capability bit of a node that forgets handles of closed mailboxes.
pub const CAPABILITY_FORGETTING: u32 = 4;
/// The capability bit of a node that tells, and reads, in Ready between which ends the connection runs.
pub const CAPABILITY_ENDS: u32 = 8;
/// The capability bits that a peer must know, or refuse; it may ignore those below.
pub const MUST_KNOW: u32 = 0xffff_0000;
/// The capability bits that this library knows.
const KNOWN_CAPABILITIES: u32 =
    CAPABILITY_CHECKSUMS | CAPABILITY_TRACES | CAPABILITY_FORGETTING | CAPABILITY_ENDS;

/// Refuses capabilities that must be known and are not.
fn check_capabilities(bits: u32) -> Result<(), HandshakeError> {
    match bits & MUST_KNOW & !KNOWN_CAPABILITIES {
        0 => Ok(()),
        unknown => Err(HandshakeError::Refusing(Refusal::Capabilities { unknown })),
    }
}

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

impl Identity {
    /// Whether both are of one incarnation of one node.
    pub(crate) fn is_same_node(&self, other: &Identity) -> bool {
        self.node == other.node && self.incarnation == other.incarnation
    }
}

/// Which session the dialer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A new one.
    New,
    /// To go on with the one of this number.
    Resume(u128),
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
    /// The protocol version that both speak.
    pub version: u16,
}

/// What either side tells of its rings once it believes the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it has consumed of the other's rings, by lane: where the other pushes from.
    pub consumed: [Position; LANES],
    /// How the other's writes reach its rings: for the transport to read.
    pub offer: Vec<u8>,
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

/// What is told of the ends where nothing is known of them: two empty texts.
fn write_ends(writer: Writer, ends: Option<&Ends>) -> Writer {
    let (own, peer) = ends.map_or(("", ""), |ends| (&ends.own, &ends.peer));
    writer.text(own).text(peer)
}

fn read_ends(reader: &mut Reader<'_>) -> Result<Option<Ends>, DecodeError> {
    let (own, peer) = (reader.text("listener's end")?, reader.text("dialer's end")?);
    Ok(match own.is_empty() || peer.is_empty() {
        true => None,
        false => Some(Ends { own, peer }),
    })
}

fn write_positions(writer: Writer, positions: &[Position; LANES]) -> Writer {
    positions
        .iter()
        .fold(writer, |writer, position| writer.bytes(&position.to_le_bytes()))
}

fn write_terms(kind: u8, terms: &Terms) -> Writer {
    write_positions(Writer::new().bytes(&[kind]), &terms.consumed).blob(&terms.offer)
}

fn read_terms(reader: &mut Reader<'_>, kind: u8, field: &'static str) -> Result<Terms, DecodeError> {
    expect_kind(reader, kind, field)?;
    Ok(Terms {
        consumed: read_positions(reader)?,
        offer: reader.blob()?.to_vec(),
    })
}

#[cfg(test)]
mod tests;

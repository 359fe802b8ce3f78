//! The listener's side of the handshake.

use super::transcript::{BY_DIALER, BY_LISTENER, Transcript};
use super::{
    Agreement, CAPABILITY_CHECKSUMS, CAPABILITY_ENDS, HandshakeError, Identity, MAGIC, NONCE, Nonce,
    OLDEST_VERSION, Refusal, Secret, Terms, VERSION, Wanted, check_capabilities, expect_kind, kind,
    read_sizes, read_terms, write_ends, write_sizes, write_terms,
};
use crate::codec::{Reader, Writer};
use crate::link::Ends;

/// The listener's side, after a `Hello` that makes sense.
pub struct Answering {
    transcript: Transcript,
    own: Identity,
    peer: Identity,
    wanted: Wanted,
    version: u16,
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
        let version = newest.min(VERSION);
        if version < oldest.max(OLDEST_VERSION) {
            return Err(HandshakeError::Refusing(Refusal::Version {
                oldest: OLDEST_VERSION,
                newest: VERSION,
            }));
        }
        let capabilities = reader.u32()?;
        check_capabilities(capabilities)?;
        let cluster = reader.text("cluster name")?;
        let node = reader.text("node name")?;
        let incarnation = reader.u64()?;
        let _nonce: [u8; NONCE] = reader.array()?;
        let sizes = read_sizes(&mut reader)?;
        let session = reader.u128()?;
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
            wanted: match session {
                0 => Wanted::New,
                session => Wanted::Resume(session),
            },
            version,
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

    /// Accepts: the message to send, and the agreement, which holds once [`Answering::confirmed`] has succeeded. The
    /// nonce is random, and never used again.
    pub fn welcome(&mut self, session: u128, salt: u64, nonce: &Nonce) -> (Agreement, Vec<u8>) {
        let welcome = Writer::new()
            .bytes(&[kind::WELCOME])
            .bytes(&self.version.to_le_bytes())
            .bytes(&self.own.capabilities.to_le_bytes())
            .text(&self.own.node)
            .bytes(&self.own.incarnation.to_le_bytes())
            .bytes(nonce);
        let welcome = write_sizes(welcome, &self.own.sizes)
            .bytes(&session.to_le_bytes())
            .bytes(&salt.to_le_bytes());
        let agreement = Agreement {
            peer: self.peer.clone(),
            session,
            salt,
            checksums: (self.peer.capabilities | self.own.capabilities) & CAPABILITY_CHECKSUMS != 0,
            version: self.version,
        };
        (agreement, self.transcript.seal(BY_LISTENER, welcome.finish()))
    }

    /// Takes the dialer's proof, its link offer, and what it has consumed: from here on the dialer is known.
    ///
    /// # Errors
    /// [`HandshakeError::WrongSecret`] when it does not know the secret.
    pub fn confirmed(&mut self, message: &[u8]) -> Result<Terms, HandshakeError> {
        let mut reader = Reader::new(self.transcript.open(BY_DIALER, message)?);
        let terms = read_terms(&mut reader, kind::CONFIRM, "answer to Welcome")?;
        reader.finish()?;
        Ok(terms)
    }

    /// Our link offer and what we have consumed of the dialer's rings, to send; and between which ends this side sees the
    /// connection.
    pub fn ready(&mut self, terms: &Terms, ends: Option<&Ends>) -> Vec<u8> {
        let mut ready = write_terms(kind::READY, terms);
        if self.peer.capabilities & self.own.capabilities & CAPABILITY_ENDS != 0 {
            ready = write_ends(ready, ends);
        }
        self.transcript.seal(BY_LISTENER, ready.finish())
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

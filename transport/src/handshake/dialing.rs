//! The dialer's side of the handshake.

use super::transcript::{BY_DIALER, BY_LISTENER, Transcript};
use super::{
    Agreement, CAPABILITY_CHECKSUMS, CAPABILITY_ENDS, HandshakeError, Identity, MAGIC, NONCE, Nonce,
    OLDEST_VERSION, Refusal, Secret, Terms, VERSION, Wanted, check_capabilities, expect_kind, kind,
    read_ends, read_sizes, read_terms, write_sizes, write_terms,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::link::Ends;

/// The dialer's side.
pub struct Dialing {
    transcript: Transcript,
    own: Identity,
    /// The listener is one that tells.
    is_told_ends: bool,
}

impl Dialing {
    /// Starts: the first message to send. The nonce is random, and never used again.
    pub fn start(secret: &Secret, own: &Identity, wanted: Wanted, nonce: &Nonce) -> (Dialing, Vec<u8>) {
        let session = match wanted {
            Wanted::New => 0,
            Wanted::Resume(session) => session,
        };
        let hello = Writer::new()
            .bytes(&[kind::HELLO])
            .bytes(&MAGIC)
            .bytes(&OLDEST_VERSION.to_le_bytes())
            .bytes(&VERSION.to_le_bytes())
            .bytes(&own.capabilities.to_le_bytes())
            .text(&own.cluster)
            .text(&own.node)
            .bytes(&own.incarnation.to_le_bytes())
            .bytes(nonce);
        let hello = write_sizes(hello, &own.sizes)
            .bytes(&session.to_le_bytes())
            .finish();
        let mut transcript = Transcript::new(secret);
        transcript.absorb(&hello);
        let dialing = Dialing {
            transcript,
            own: own.clone(),
            is_told_ends: false,
        };
        (dialing, hello)
    }

    /// Takes the listener's answer. From here on the listener is known to be a member of the cluster.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::WrongSecret`], or malformed.
    pub fn welcomed(&mut self, message: &[u8]) -> Result<Agreement, HandshakeError> {
        refused(message)?;
        let mut reader = Reader::new(self.transcript.open(BY_LISTENER, message)?);
        expect_kind(&mut reader, kind::WELCOME, "answer to Hello")?;
        let version = reader.u16()?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(DecodeError::Unknown {
                field: "protocol version",
                value: u64::from(version),
            }
            .into());
        }
        let capabilities = reader.u32()?;
        check_capabilities(capabilities)?;
        self.is_told_ends = capabilities & self.own.capabilities & CAPABILITY_ENDS != 0;
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
            version,
        })
    }

    /// Our link offer and what we have consumed of the listener's rings, to send.
    pub fn confirm(&mut self, terms: &Terms) -> Vec<u8> {
        let confirm = write_terms(kind::CONFIRM, terms);
        self.transcript.seal(BY_DIALER, confirm.finish())
    }

    /// Takes the listener's link offer and what it has consumed of our rings; and between which ends it sees the connection, if it
    /// tells.
    ///
    /// # Errors
    /// [`HandshakeError`] when it is malformed or not the listener's.
    pub fn ready(&mut self, message: &[u8]) -> Result<(Terms, Option<Ends>), HandshakeError> {
        refused(message)?;
        let mut reader = Reader::new(self.transcript.open(BY_LISTENER, message)?);
        let terms = read_terms(&mut reader, kind::READY, "answer to Confirm")?;
        let ends = match self.is_told_ends {
            true => read_ends(&mut reader)?,
            false => None,
        };
        reader.finish()?;
        Ok((terms, ends))
    }

    /// The last message: the link may be used from now on.
    pub fn start_message(mut self) -> Vec<u8> {
        self.transcript.seal(BY_DIALER, vec![kind::START])
    }
}

fn refused(message: &[u8]) -> Result<(), HandshakeError> {
    match Refusal::in_message(message) {
        None => Ok(()),
        Some(Ok(refusal)) => Err(HandshakeError::Refused(refusal)),
        Some(Err(error)) => Err(error.into()),
    }
}

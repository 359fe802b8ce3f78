//! The running hash of what was said, and the proofs over it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{HandshakeError, Secret};
use crate::codec::DecodeError;

/// Bytes of a proof.
pub(super) const PROOF: usize = 32;

/// What was said so far, in the order in which both sides heard it.
pub(super) struct Transcript {
    secret: Secret,
    hash: [u8; 32],
}

impl Transcript {
    pub(super) fn new(secret: &Secret) -> Transcript {
        Transcript {
            secret: secret.clone(),
            hash: [0; 32],
        }
    }

    pub(super) fn absorb(&mut self, content: &[u8]) {
        self.hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(content)
            .finalize()
            .into();
    }

    pub(super) fn proof(&self, label: &str) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.secret.0)
            .expect("HMAC takes keys of any length")
            .chain_update(label.as_bytes())
            .chain_update(self.hash)
    }

    /// Appends the proof of everything so far, `content` included.
    pub(super) fn seal(&mut self, label: &str, mut content: Vec<u8>) -> Vec<u8> {
        self.absorb(&content);
        content.extend_from_slice(&self.proof(label).finalize().into_bytes());
        content
    }

    /// Takes the proof off and checks it.
    pub(super) fn open<'m>(&mut self, label: &str, message: &'m [u8]) -> Result<&'m [u8], HandshakeError> {
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

pub(super) const BY_LISTENER: &str = "mirrored-ring listener";
pub(super) const BY_DIALER: &str = "mirrored-ring dialer";

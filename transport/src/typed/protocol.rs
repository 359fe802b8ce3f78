//! What a message type says of itself.

use crate::protocol::{Asked, Spoken};
use crate::typed::Codec;

/// A message type that mailboxes can speak: its protocol's name, its version, and how it becomes bytes.
///
/// Change the version when bytes of the old type no longer mean the same. A type that still understands the bytes of
/// older versions (as a `serde` enum does that has only gained variants at its end) says so with
/// [`Protocol::OLDEST`]: then nodes of both versions can talk during a rolling restart, old to new.
pub trait Protocol: Sized + 'static {
    /// The protocol's name, 1 to 255 bytes, the same on every node.
    const NAME: &'static str;
    /// The version that this type is, and sends.
    const VERSION: u16;
    /// The oldest version whose bytes this type understands. Default: only its own.
    const OLDEST: u16 = Self::VERSION;
    /// How a message becomes bytes: [`super::Postcard`] unless there is a reason for another.
    type Codec: Codec<Self>;
}

/// Checked when the program is compiled, for every protocol that is used.
const fn check<M: Protocol>() {
    assert!(
        !M::NAME.is_empty() && M::NAME.len() <= 255,
        "Protocol::NAME has 1 to 255 bytes"
    );
    assert!(
        M::OLDEST <= M::VERSION,
        "Protocol::OLDEST is at most Protocol::VERSION"
    );
}

pub(super) fn spoken<M: Protocol>() -> Spoken {
    const { check::<M>() };
    Spoken {
        name: M::NAME.into(),
        oldest: M::OLDEST,
        newest: M::VERSION,
    }
}

pub(super) fn asked<M: Protocol>() -> Asked {
    const { check::<M>() };
    Asked {
        name: M::NAME.into(),
        version: M::VERSION,
    }
}

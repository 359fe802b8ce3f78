//! An address of a known type that can be put into messages.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::Node;
use crate::reference::ReferenceError;
use crate::typed::{Address, Protocol};

/// A [`crate::Reference`] to a mailbox that speaks `M`: put it into messages as where to reply to; it is valid on any node.
#[derive(Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Reference<M> {
    raw: crate::Reference,
    #[serde(skip)]
    speaks: PhantomData<fn(M)>,
}

impl<M> Reference<M> {
    pub(super) fn new(raw: crate::Reference) -> Reference<M> {
        Reference {
            raw,
            speaks: PhantomData,
        }
    }

    /// The reference without its type.
    pub fn raw(&self) -> &crate::Reference {
        &self.raw
    }
}

/// A reference that speaks `M`, if the mailbox does: that is checked where it is resolved.
impl<M> From<crate::Reference> for Reference<M> {
    fn from(raw: crate::Reference) -> Reference<M> {
        Reference::new(raw)
    }
}

impl<M> Clone for Reference<M> {
    fn clone(&self) -> Reference<M> {
        Reference::new(self.raw.clone())
    }
}

impl<M> PartialEq for Reference<M> {
    fn eq(&self, other: &Reference<M>) -> bool {
        self.raw == other.raw
    }
}

impl<M> fmt::Debug for Reference<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

impl Node {
    /// The address that a reference stands for: of a mailbox of this node, of a peer, or of a node that is connected to
    /// first: then it blocks, for 10 s for each of its addresses at most. That the mailbox speaks `M` is checked there.
    ///
    /// # Errors
    /// As [`Node::resolve`], and [`crate::ResolveError::WrongProtocol`] within [`ReferenceError::Resolve`].
    pub fn resolve_typed<M: Protocol>(&self, reference: &Reference<M>) -> Result<Address<M>, ReferenceError> {
        self.inner
            .refer(&reference.raw, Some(super::protocol::asked::<M>()))
            .map(Address::new)
    }
}

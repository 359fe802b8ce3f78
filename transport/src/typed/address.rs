//! Where messages of one type can be sent.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::trace::Tagged;
use crate::typed::{Codec, Protocol, Reference};
use crate::{Node, Peer, ResolveError, SendError};

/// Where messages of type `M` can be sent: a mailbox that was found to speak its protocol.
///
/// A message is encoded in place, into the slot that was claimed for it. Otherwise it is as [`crate::Address`] says.
pub struct Address<M> {
    raw: crate::Address,
    speaks: PhantomData<fn(M)>,
}

impl<M: Protocol> Address<M> {
    pub(super) fn new(raw: crate::Address) -> Address<M> {
        Address {
            raw,
            speaks: PhantomData,
        }
    }

    /// The address without its type: for bytes that are encoded already.
    pub fn raw(&self) -> &crate::Address {
        &self.raw
    }

    /// Something to put into messages: whoever gets it can send here too. See [`Reference`].
    pub fn reference(&self) -> Reference<M> {
        Reference::new(self.raw.reference())
    }

    pub(super) fn try_write(&self, message: &M, tags: impl Tagged) -> Result<(), SendError> {
        let len = M::Codec::len(message)?;
        self.raw.try_write(len, tags, |slot| {
            M::Codec::encode(message, slot).map_err(SendError::from)
        })
    }

    /// The message, encoded, when it takes several chunks: then there is no slot to encode it into.
    fn encoded_for_chunks(&self, message: &M) -> Result<Option<Vec<u8>>, SendError> {
        let len = M::Codec::len(message)?;
        if !self.raw.goes_in_several_chunks(len) {
            return Ok(None);
        }
        let mut encoded = vec![0; len];
        M::Codec::encode(message, &mut encoded)?;
        Ok(Some(encoded))
    }

    /// Sends, or says at once why not. Never blocks.
    ///
    /// # Errors
    /// Any [`SendError`] but [`SendError::TimedOut`].
    pub fn try_send(&self, message: &M) -> Result<(), SendError> {
        self.try_write(message, None)
    }

    /// As [`Address::try_send`], with a correlation id that travels with the message.
    ///
    /// # Errors
    /// As [`Address::try_send`].
    pub fn try_send_with(&self, message: &M, correlation: Option<u64>) -> Result<(), SendError> {
        self.try_write(message, correlation)
    }

    /// Sends, waiting for room as long as it takes if the mailbox's policy is to wait.
    ///
    /// # Errors
    /// As [`crate::Address::send`], and [`SendError::Unencodable`].
    pub fn send(&self, message: &M) -> Result<(), SendError> {
        self.send_tagged(message, None, None)
    }

    /// As [`Address::send`], for at most `timeout`.
    ///
    /// # Errors
    /// As [`Address::send`], and [`SendError::TimedOut`].
    pub fn send_timeout(&self, message: &M, timeout: Duration) -> Result<(), SendError> {
        self.send_tagged(message, None, Some(timeout))
    }

    pub(super) fn send_tagged(
        &self,
        message: &M,
        tags: impl Tagged,
        timeout: Option<Duration>,
    ) -> Result<(), SendError> {
        match self.encoded_for_chunks(message)? {
            Some(encoded) => self.raw.send_until(&encoded, tags, timeout),
            None => self
                .raw
                .waiting_for_room(timeout, || self.try_write(message, tags)),
        }
    }

    /// As [`Address::send`], as a future that any executor can run. Cancelled before it is done, it has sent nothing.
    ///
    /// # Errors
    /// As [`Address::send`].
    pub async fn send_async(&self, message: &M) -> Result<(), SendError> {
        self.send_tagged_async(message, None).await
    }

    pub(super) async fn send_tagged_async(&self, message: &M, tags: impl Tagged) -> Result<(), SendError> {
        if let Some(encoded) = self.encoded_for_chunks(message)? {
            return self.raw.send_tagged(&encoded, tags).await;
        }
        self.raw.attempt_async(|| self.try_write(message, tags)).await
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Address<M> {
        Address {
            raw: self.raw.clone(),
            speaks: PhantomData,
        }
    }
}

impl<M: Protocol> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("node", &self.raw.node())
            .field("mailbox", &self.raw.mailbox())
            .field("protocol", &M::NAME)
            .finish()
    }
}

impl Peer {
    /// The address of one of the peer's mailboxes that speaks `M`. Asks the peer the first time; blocks for 10 s at most.
    ///
    /// # Errors
    /// [`ResolveError`]; [`ResolveError::WrongProtocol`] when the mailbox speaks something else.
    pub fn typed_address<M: Protocol>(&self, mailbox: &str) -> Result<Address<M>, ResolveError> {
        self.address_speaking(mailbox, Some(super::protocol::asked::<M>()))
            .map(Address::new)
    }

    /// As [`Peer::typed_address`], as a future that any executor can run; waits as long as the session lives.
    ///
    /// # Errors
    /// As [`Peer::typed_address`].
    pub async fn typed_address_async<M: Protocol>(&self, mailbox: &str) -> Result<Address<M>, ResolveError> {
        self.address_speaking_async(mailbox, Some(super::protocol::asked::<M>()))
            .await
            .map(Address::new)
    }
}

impl Node {
    /// The address of one of this node's own mailboxes that speaks `M`.
    ///
    /// # Errors
    /// [`ResolveError::NoSuchMailbox`] and [`ResolveError::WrongProtocol`].
    pub fn typed_address<M: Protocol>(&self, mailbox: &str) -> Result<Address<M>, ResolveError> {
        self.inner
            .own_address(mailbox, Some(&super::protocol::asked::<M>()))
            .map(Address::new)
    }
}

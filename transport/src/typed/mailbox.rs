//! The receiving end of a mailbox whose messages have a type.

use std::time::Duration;

use crate::dead_letter::Reason;
use crate::typed::{Asker, Question};
use crate::typed::{Codec, Protocol, Undecodable};
use crate::{Gone, MailboxClosed, MailboxOptions, Node, NodeError, Peer, TraceContext, Watch};

/// The receiving end of a mailbox that speaks `M`. As [`crate::Mailbox`], and what can't be decoded is an error, counted,
/// and a dead letter ([`Reason::Undecodable`]); the messages after it are there as ever.
pub struct Mailbox<M: Protocol> {
    raw: crate::Mailbox,
    /// Bytes that were lent and must not change while they are decoded.
    scratch: Vec<u8>,
    speaks: std::marker::PhantomData<fn() -> M>,
}

/// A message of type `M`, lent to whoever takes it from its mailbox.
pub struct Message<'m, M: Protocol> {
    /// The message: itself, or a view of it, as its codec has it.
    pub body: <M::Codec as Codec<M>>::View<'m>,
    raw: crate::Message<'m>,
}

impl<M: Protocol> Message<'_, M> {
    /// The correlation id, if the sender gave one.
    pub fn correlation(&self) -> Option<u64> {
        self.raw.correlation
    }

    /// The span that it was sent in, if the sender gave one.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.raw.trace
    }

    /// The sender's node; `None` for this node itself, or when its session is over.
    pub fn peer(&self) -> Option<Peer> {
        self.raw.peer()
    }

    /// Whoever waits for an answer to this message: see [`crate::ask`].
    pub fn asker(&self) -> Option<Asker<M>>
    where
        M: Question,
    {
        self.raw.asker().map(Asker::new)
    }
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The node is closed, and everything has been taken.
    #[error(transparent)]
    Closed(#[from] MailboxClosed),
    /// Somebody sent what is no message. It is counted and a dead letter; go on receiving.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

fn undecodable<M: Protocol>(raw: &crate::Message<'_>, cause: String) -> Undecodable {
    Undecodable {
        protocol: M::NAME,
        len: raw.payload.len(),
        cause,
    }
}

impl<M: Protocol> Mailbox<M> {
    /// The mailbox's name.
    pub fn name(&self) -> &str {
        self.raw.name()
    }

    /// Messages that wait to be taken.
    pub fn depth(&self) -> usize {
        self.raw.depth()
    }

    /// The mailbox without its type.
    pub fn raw(&self) -> &crate::Mailbox {
        &self.raw
    }

    /// Learns here, once, that the mailbox behind `address` is gone: the message that `notice` makes is then put into this
    /// mailbox, behind the last that came from there. See [`crate::watch`].
    ///
    /// `notice` may run on the node's thread: it must not block.
    pub fn watch<T: Protocol>(
        &self,
        address: &super::Address<T>,
        notice: impl FnOnce(&Gone) -> M + Send + 'static,
    ) -> Watch {
        self.raw
            .watch(address.raw(), move |gone| encode_notice(&notice(gone)))
    }

    /// As [`Mailbox::watch`], for a node: its session is over.
    pub fn watch_node(&self, peer: &Peer, notice: impl FnOnce(&Gone) -> M + Send + 'static) -> Watch {
        self.raw
            .watch_node(peer, move |gone| encode_notice(&notice(gone)))
    }

    /// The next message, if one is there.
    ///
    /// # Errors
    /// [`RecvError::Undecodable`]: one message was no message, and is used up; go on. [`RecvError::Closed`]: there will be none.
    pub fn try_recv(&mut self) -> Result<Option<Message<'_, M>>, RecvError> {
        let shared = self.raw.shared.clone();
        match self.raw.try_recv()? {
            Some(raw) => decode(&shared, raw).map(Some),
            None => Ok(None),
        }
    }

    /// The next message; blocks until there is one.
    ///
    /// # Errors
    /// As [`Mailbox::try_recv`].
    pub fn recv(&mut self) -> Result<Message<'_, M>, RecvError> {
        let shared = self.raw.shared.clone();
        decode(&shared, self.raw.recv()?)
    }

    /// The next message; blocks for at most `timeout`.
    ///
    /// # Errors
    /// As [`Mailbox::try_recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_, M>>, RecvError> {
        let shared = self.raw.shared.clone();
        match self.raw.recv_timeout(timeout)? {
            Some(raw) => decode(&shared, raw).map(Some),
            None => Ok(None),
        }
    }

    /// The next message; a future that any executor can run. As [`crate::Mailbox::recv_async`].
    ///
    /// # Errors
    /// As [`Mailbox::try_recv`].
    pub async fn recv_async(&mut self) -> Result<Message<'_, M>, RecvError> {
        let shared = self.raw.shared.clone();
        decode(&shared, self.raw.recv_async().await?)
    }

    /// Drives the node once and hands every message that is there to `handle`, as [`crate::Mailbox::poll`] does: lent
    /// from the receive ring where the codec allows. What can't be decoded is counted, a dead letter, and skipped.
    ///
    /// # Errors
    /// [`MailboxClosed`] when the node is closed and everything has been taken.
    pub fn poll(&mut self, mut handle: impl FnMut(Message<'_, M>)) -> Result<usize, MailboxClosed> {
        let shared = self.raw.shared.clone();
        let scratch = &mut self.scratch;
        self.raw.poll(|raw| {
            let payload = if <M::Codec as Codec<M>>::IN_PLACE {
                raw.payload
            } else {
                scratch.clear();
                scratch.extend_from_slice(raw.payload);
                &*scratch
            };
            match M::Codec::decode(payload) {
                Ok(body) => handle(Message { body, raw }),
                Err(cause) => drop(refuse::<M>(&shared, &raw, cause)),
            }
        })
    }
}

/// The bytes of a notice; of one that has none, no bytes: the watcher then finds something undecodable, rather than nothing.
fn encode_notice<M: Protocol>(notice: &M) -> Vec<u8> {
    let encoded = M::Codec::len(notice).and_then(|len| {
        let mut bytes = vec![0; len];
        M::Codec::encode(notice, &mut bytes).map(|()| bytes)
    });
    encoded.unwrap_or_default()
}

fn decode<'m, M: Protocol>(
    shared: &crate::mailbox::MailboxShared,
    raw: crate::Message<'m>,
) -> Result<Message<'m, M>, RecvError> {
    match M::Codec::decode(raw.payload) {
        Ok(body) => Ok(Message { body, raw }),
        Err(cause) => Err(refuse::<M>(shared, &raw, cause).into()),
    }
}

#[cold]
fn refuse<M: Protocol>(
    shared: &crate::mailbox::MailboxShared,
    raw: &crate::Message<'_>,
    cause: String,
) -> Undecodable {
    shared.report(raw.lost(Reason::Undecodable));
    undecodable::<M>(raw, cause)
}

impl<M: Protocol> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.name())
            .field("protocol", &M::NAME)
            .field("depth", &self.depth())
            .finish()
    }
}

impl Node {
    /// Opens a mailbox that speaks `M`. Peers reach it by its name, and are refused if they would speak something else.
    ///
    /// # Errors
    /// As [`Node::mailbox`].
    pub fn typed_mailbox<M: Protocol>(
        &self,
        name: &str,
        options: MailboxOptions,
    ) -> Result<Mailbox<M>, NodeError> {
        let raw = self.open_mailbox(name, options, Some(super::protocol::spoken::<M>()))?;
        Ok(Mailbox {
            raw,
            scratch: Vec::new(),
            speaks: std::marker::PhantomData,
        })
    }
}

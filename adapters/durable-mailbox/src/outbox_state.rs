//! What an outbox knows of its messages: recovered from the journal, kept while it is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pmem_journal::{EntityId, Journal};
use transport::{Node, Reference};

use crate::error::Error;
use crate::record::{KIND, Record};

/// Bounds of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxOptions {
    /// Messages that may be sent and not acknowledged. Default 1,024.
    pub window: usize,
    /// Longest message in bytes. Default 60 KiB; the mailbox must take 25 bytes more.
    pub max_message: usize,
    /// How long to wait for an answer before everything unacknowledged is sent again. Default 2 s.
    pub answer_within: Duration,
    /// How long to go on trying while nothing is acknowledged. Then the outbox is [`Status::Stalled`] until
    /// [`Outbox::retry`](crate::Outbox::retry); the messages stay. Default 10 minutes.
    pub patience: Duration,
}

impl Default for OutboxOptions {
    fn default() -> OutboxOptions {
        OutboxOptions {
            window: 1024,
            max_message: 60 << 10,
            answer_within: Duration::from_secs(2),
            patience: Duration::from_secs(600),
        }
    }
}

/// Why messages are not being delivered just now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The mailbox can't be reached.
    #[error("out of reach: {0}")]
    OutOfReach(String),
    /// The mailbox has acknowledged more than it knows of now: its journal was lost or rolled back. Nothing is resent.
    #[error("the receiver acknowledged message {acknowledged} and knows of {known}: its journal was lost")]
    ReceiverForgot {
        /// The last message that it acknowledged.
        acknowledged: u64,
        /// The last message that it knows.
        known: u64,
    },
    /// The mailbox knows of more messages than this outbox has sent: this side's journal was lost or rolled back.
    #[error(
        "the receiver knows of message {known} and {sent} were sent: this journal was lost, or the name is used twice"
    )]
    SenderForgot {
        /// The last message that the receiver knows.
        known: u64,
        /// The last message sent.
        sent: u64,
    },
    /// This side's journal failed.
    #[error("the journal failed: {0}")]
    Journal(String),
}

impl Trouble {
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Trouble::OutOfReach(_))
    }
}

/// How an outbox is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Messages are being delivered, or there are none.
    Delivering,
    /// It tries again and again.
    Trying(Trouble),
    /// It has given up until [`Outbox::retry`](crate::Outbox::retry), or a restart. The messages are kept.
    Stalled(Trouble),
}

/// Which messages are under way, and how that goes.
pub(crate) struct State {
    /// Sent and not acknowledged, by number.
    pub(crate) open: BTreeMap<u64, Arc<[u8]>>,
    /// Messages that are being appended: each will take a place in `open`.
    pub(crate) appending: usize,
    pub(crate) acknowledged: u64,
    /// The last number that the journal has given out, as far as is known.
    pub(crate) last: u64,
    /// What the journal says is acknowledged.
    pub(crate) recorded: u64,
    pub(crate) destination: Reference,
    pub(crate) status: Status,
    pub(crate) stop: bool,
}

impl State {
    /// What the journal says.
    pub(crate) fn recover(
        journal: &Journal,
        messages: EntityId,
        notes: EntityId,
        destination: Reference,
    ) -> Result<State, Error> {
        let mut state = State {
            open: BTreeMap::new(),
            appending: 0,
            acknowledged: 0,
            last: 0,
            recorded: 0,
            destination,
            status: Status::Delivering,
            stop: false,
        };
        let mut replay = journal.replay_kept()?;
        while let Some(event) = replay.next_event()? {
            if event.kind != KIND || event.entity != messages && event.entity != notes {
                continue;
            }
            let position = event.position;
            match Record::from_bytes(event.payload).map_err(|cause| Error::NotARecord { position, cause })? {
                Record::Sent { payload } => {
                    state.last = event.sequence;
                    state.open.insert(event.sequence, payload.into());
                }
                Record::Acknowledged { until } => {
                    state.acknowledged = until;
                    state.open = state.open.split_off(&(until + 1));
                }
                Record::Redirected { to } => state.destination = to,
                _ => {}
            }
        }
        state.recorded = state.acknowledged;
        Ok(state)
    }
}

/// What an outbox and its courier share.
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) name: String,
    /// What the receiver knows this outbox by.
    pub(crate) sender: u128,
    pub(crate) options: OutboxOptions,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(
        node: Arc<Node>,
        journal: Arc<Journal>,
        name: &str,
        sender: EntityId,
        options: OutboxOptions,
        state: State,
    ) -> Shared {
        Shared {
            node,
            journal,
            name: name.to_owned(),
            sender: sender.0,
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait<'s>(&self, state: MutexGuard<'s, State>, longest: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, longest);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn tell(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn notes(&self) -> EntityId {
        notes_entity(&self.name)
    }
}

/// The entity of everything of an outbox but the messages, whose sequence numbers them.
pub(crate) fn notes_entity(name: &str) -> EntityId {
    EntityId::named(&format!("durable-mailbox/outbox-notes/{name}"))
}

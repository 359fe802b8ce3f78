//! The sending side: messages are in the journal before `send` returns, and are delivered until they are acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pmem_journal::{EntityId, Event, Expected, IdempotencyKey, Journal};
use transport::{Node, Reference};

use crate::courier;
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
    /// [`Outbox::retry`]; the messages stay. Default 10 minutes.
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
    /// It has given up until [`Outbox::retry`], or a restart. The messages are kept.
    Stalled(Trouble),
}

pub(crate) struct State {
    /// Sent and not acknowledged, by number.
    pub(crate) open: BTreeMap<u64, Arc<[u8]>>,
    /// Messages that are being appended: each will take a place in `open`.
    appending: usize,
    pub(crate) acknowledged: u64,
    /// The last number that the journal has given out, as far as is known.
    pub(crate) last: u64,
    /// What the journal says is acknowledged.
    pub(crate) recorded: u64,
    pub(crate) destination: Reference,
    pub(crate) status: Status,
    pub(crate) stop: bool,
}

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

    /// The entity of everything but the messages, whose sequence numbers them.
    pub(crate) fn notes(&self) -> EntityId {
        notes_entity(&self.name)
    }
}

fn notes_entity(name: &str) -> EntityId {
    EntityId::named(&format!("durable-mailbox/outbox-notes/{name}"))
}

/// The sending side of durable messages to one mailbox. Dropping it stops delivery; what is not acknowledged is delivered
/// when it is opened again.
pub struct Outbox {
    shared: Arc<Shared>,
    entity: EntityId,
    courier: Option<JoinHandle<()>>,
}

impl Outbox {
    /// Opens the outbox of this name, which no other outbox of the cluster has, and goes on with what it has not delivered.
    /// `destination` is the mailbox; one that has moved since is followed, also across restarts.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::NotARecord`], [`Error::Thread`].
    pub fn open(
        node: Arc<Node>,
        journal: Arc<Journal>,
        name: &str,
        destination: Reference,
        options: OutboxOptions,
    ) -> Result<Outbox, Error> {
        let entity = EntityId::named(&format!("durable-mailbox/outbox/{name}"));
        let state = recover(&journal, entity, notes_entity(name), destination)?;
        let shared = Arc::new(Shared {
            node,
            journal,
            name: name.to_owned(),
            sender: entity.0,
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let courier = std::thread::Builder::new()
            .name("outbox".into())
            .spawn({
                let shared = shared.clone();
                move || courier::run(&shared)
            })
            .map_err(Error::Thread)?;
        Ok(Outbox {
            shared,
            entity,
            courier: Some(courier),
        })
    }

    /// Sends: the message is durable when this returns, and its number comes back. Waits while the window is full.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Journal`].
    pub fn send(&self, payload: &[u8]) -> Result<u64, Error> {
        self.send_with(&[], 0, payload)
    }

    /// As [`Outbox::send`], in one atomic batch with events of the application's (of other kinds than [`KIND`]): both are
    /// durable or neither. With a `key` that is not 0, a message of the same key is sent once however often this is called;
    /// give each event a key too, then.
    ///
    /// # Errors
    /// As [`Outbox::send`].
    pub fn send_with(&self, events: &[Event<'_>], key: IdempotencyKey, payload: &[u8]) -> Result<u64, Error> {
        self.reserve(None, payload.len())?;
        self.append(events, key, payload)
    }

    /// As [`Outbox::send`], but never waits for the window.
    ///
    /// # Errors
    /// As [`Outbox::send`], and [`Error::WindowFull`].
    pub fn try_send(&self, payload: &[u8]) -> Result<u64, Error> {
        self.reserve(Some(Instant::now()), payload.len())?;
        self.append(&[], 0, payload)
    }

    fn reserve(&self, until: Option<Instant>, len: usize) -> Result<(), Error> {
        let options = &self.shared.options;
        if len > options.max_message {
            return Err(Error::TooLarge {
                len,
                max: options.max_message,
            });
        }
        let mut state = self.shared.state();
        while state.open.len() + state.appending >= options.window.max(1) {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Error::WindowFull {
                    window: options.window,
                });
            }
            state = self.shared.wait(state, Duration::from_secs(1));
        }
        state.appending += 1;
        Ok(())
    }

    fn append(&self, events: &[Event<'_>], key: IdempotencyKey, payload: &[u8]) -> Result<u64, Error> {
        let record = Record::Sent { payload }.to_bytes();
        let mut batch = events.to_vec();
        batch.push(Event::new(self.entity, KIND, &record).key(key));
        // Without the state's lock: one sync serves all threads that send.
        let appended = self.shared.journal.append(&batch, Expected::Any);
        let mut state = self.shared.state();
        state.appending -= 1;
        let appended = appended.inspect_err(|_| self.shared.tell())?;
        if !appended.duplicate {
            state.open.insert(appended.sequence, payload.into());
        }
        state.last = state.last.max(appended.sequence);
        drop(state);
        self.shared.tell();
        Ok(appended.sequence)
    }

    /// The number of the last message sent, 0 for none.
    pub fn last(&self) -> u64 {
        self.shared.state().last
    }

    /// Messages that are sent and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.shared.state().open.len()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.shared.state().status.clone()
    }

    /// Tries again after [`Status::Stalled`].
    pub fn retry(&self) {
        self.shared.state().status = Status::Delivering;
        self.shared.tell();
    }

    /// Waits until everything sent is acknowledged; false when it is not within `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.shared.state();
        while !state.open.is_empty() {
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, left.min(Duration::from_secs(1)));
        }
        true
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.tell();
        if let Some(courier) = self.courier.take() {
            let _ = courier.join();
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("name", &self.shared.name)
            .field("unacknowledged", &self.unacknowledged())
            .field("status", &self.status())
            .finish()
    }
}

fn recover(
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

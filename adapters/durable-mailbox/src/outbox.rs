//! The sending side: messages are in the journal before `send` returns, and are delivered until they are acknowledged.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pmem_journal::{EntityId, Event, Expected, IdempotencyKey, Journal};
use transport::{Node, Reference};

use crate::courier;
use crate::error::Error;
use crate::outbox_state::{OutboxOptions, Shared, State, Status, notes_entity};
use crate::record::{KIND, Record};

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
        let state = State::recover(&journal, entity, notes_entity(name), destination)?;
        let shared = Arc::new(Shared::new(node, journal, name, entity, options, state));
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

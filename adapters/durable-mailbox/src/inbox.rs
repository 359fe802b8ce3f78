//! The receiving side: messages are in the journal before they are acknowledged, and are there until they are taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmem_journal::{Appended, EntityId, Event, Expected};
use transport::typed::{self, Asker, RecvError};

use crate::error::Error;
use crate::outbox::Outbox;
use crate::record::{Belongings, KIND, Pending, Record, mailbox_entity};
use crate::residents::Residents;
use crate::wire::{HowFar, Packet, Packets};

/// Messages accepted in one batch of the journal.
const BATCH: usize = 256;

/// A message, lent until it is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'d> {
    /// The outbox that it came from, as [`EntityId`]; one outbox's messages come in order, each once.
    pub sender: EntityId,
    /// Its number there: 1, 2, 3, … without gaps.
    pub sequence: u64,
    /// The message.
    pub payload: &'d [u8],
}

impl std::fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("sender", &self.sender)
            .field("sequence", &self.sequence)
            .field("len", &self.payload.len())
            .finish()
    }
}

/// The receiving side of a mailbox that this node owns. Dropping it closes the mailbox; what was accepted and not taken is
/// there when it is opened again.
pub struct Inbox {
    name: String,
    entity: EntityId,
    residents: Arc<Residents>,
    /// `None` once it is handed over.
    parts: Option<Parts>,
    duplicates: u64,
}

pub(crate) struct Parts {
    pub(crate) mailbox: typed::Mailbox<Packets>,
    pub(crate) belongings: Belongings,
}

impl Inbox {
    pub(crate) fn new(residents: Arc<Residents>, name: &str, parts: Parts) -> Inbox {
        Inbox {
            name: name.to_owned(),
            entity: mailbox_entity(name),
            residents,
            parts: Some(parts),
            duplicates: 0,
        }
    }

    /// The mailbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the owner before gave along when it handed the mailbox over to this node. `None` if nobody did, and as soon as
    /// anything has been taken here: from then on what came of it here is newer.
    pub fn state(&self) -> Option<&[u8]> {
        self.parts.as_ref()?.belongings.state.as_deref()
    }

    /// Messages accepted and not taken.
    pub fn pending(&self) -> usize {
        self.parts
            .as_ref()
            .map_or(0, |parts| parts.belongings.pending.len())
    }

    /// Messages that came again and were dropped, since the mailbox was opened.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The oldest message that is not taken; waits for one for `timeout` at most. Called again, it gives the same one.
    ///
    /// This is also where what has come is acknowledged: an outbox whose receiver does not look waits, and sends again.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::Closed`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Delivery<'_>>, Error> {
        let until = Instant::now().checked_add(timeout);
        // Those who ask how far their messages have come are answered also while there is enough to do.
        self.collect(Duration::ZERO)?;
        while self.pending() == 0 {
            let left = until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            self.collect(left)?;
        }
        Ok(self.front())
    }

    fn front(&self) -> Option<Delivery<'_>> {
        let front = self.parts.as_ref()?.belongings.pending.front()?;
        Some(Delivery {
            sender: EntityId(front.sender),
            sequence: front.sequence,
            payload: &front.payload,
        })
    }

    /// All messages that are accepted and not taken, oldest first: to take several at once.
    pub fn all_pending(&self) -> impl Iterator<Item = Delivery<'_>> {
        let pending = self.parts.iter().flat_map(|parts| &parts.belongings.pending);
        pending.map(|message| Delivery {
            sender: EntityId(message.sender),
            sequence: message.sequence,
            payload: &message.payload,
        })
    }

    /// Takes what is there, makes it durable in one batch, then answers those who asked.
    fn collect(&mut self, timeout: Duration) -> Result<(), Error> {
        let Some(Parts { mailbox, belongings }) = &mut self.parts else {
            return Ok(());
        };
        let mut accepted: Vec<Pending> = Vec::new();
        let mut askers: Vec<(Asker<Packets>, u128)> = Vec::new();
        let mut wait = timeout;
        while accepted.len() < BATCH && belongings.pending.len() + accepted.len() < 2 * BATCH {
            let received = if wait.is_zero() {
                mailbox.try_recv()
            } else {
                mailbox.recv_timeout(wait)
            };
            wait = Duration::ZERO;
            let message = match received {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(RecvError::Closed(closed)) => return Err(closed.into()),
                Err(RecvError::Undecodable(_)) => continue,
            };
            match Packet::from_bytes(message.body) {
                Some(Packet::Delivery {
                    sender,
                    sequence,
                    payload,
                }) => {
                    let before = accepted.iter().rev().find(|message| message.sender == sender);
                    let expected = before.map_or(belongings.expects(sender), |before| before.sequence + 1);
                    if sequence == expected {
                        accepted.push(Pending {
                            sender,
                            sequence,
                            payload: payload.to_vec(),
                        });
                    } else if sequence < expected {
                        self.duplicates += 1;
                    }
                    // One beyond the next is sent again, after those before it.
                }
                Some(Packet::HowFar { sender }) => {
                    askers.extend(message.asker().map(|asker| (asker, sender)));
                }
                None => tracing::warn!(mailbox = self.name, "a message that is no packet"),
            }
        }
        if !accepted.is_empty() {
            let records: Vec<_> = accepted
                .iter()
                .map(|message| {
                    Record::Accepted {
                        sender: message.sender,
                        sequence: message.sequence,
                        payload: &message.payload,
                    }
                    .to_bytes()
                })
                .collect();
            let events: Vec<_> = records
                .iter()
                .map(|record| Event::new(self.entity, KIND, record))
                .collect();
            self.residents.journal.append(&events, Expected::Any)?;
            for message in accepted {
                belongings.accept(message);
            }
        }
        for (asker, sender) in askers {
            let until = belongings.expects(sender) - 1;
            // Whoever gets no answer asks again.
            let _ = asker.answer(&HowFar::Until(until));
        }
        Ok(())
    }

    /// Takes the `count` oldest messages, in one atomic batch with the events that came of them (of other kinds than
    /// [`KIND`]): after a crash both are there or neither.
    ///
    /// # Errors
    /// [`Error::NothingToTake`], [`Error::Journal`].
    pub fn take(&mut self, count: usize, events: &[Event<'_>]) -> Result<Appended, Error> {
        let record = self.taken(count)?;
        let mut batch = vec![Event::new(self.entity, KIND, &record)];
        batch.extend_from_slice(events);
        let appended = self.residents.journal.append(&batch, Expected::Any)?;
        self.forget(count);
        Ok(appended)
    }

    /// As [`Inbox::take`], and sends a message, all in one atomic batch: what was received, what came of it and what is to
    /// be sent because of it are durable together. `outbox` must write into the same journal. Waits while its window is full.
    ///
    /// # Errors
    /// As [`Inbox::take`] and [`Outbox::send`].
    pub fn take_and_send(
        &mut self,
        count: usize,
        events: &[Event<'_>],
        outbox: &Outbox,
        payload: &[u8],
    ) -> Result<u64, Error> {
        let record = self.taken(count)?;
        let mut batch = vec![Event::new(self.entity, KIND, &record)];
        batch.extend_from_slice(events);
        let sent = outbox.send_with(&batch, 0, payload)?;
        self.forget(count);
        Ok(sent)
    }

    fn taken(&self, count: usize) -> Result<Vec<u8>, Error> {
        let pending = self.pending();
        if count == 0 || count > pending {
            return Err(Error::NothingToTake { count, pending });
        }
        Ok(Record::Taken { count: count as u32 }.to_bytes())
    }

    fn forget(&mut self, count: usize) {
        if let Some(parts) = &mut self.parts {
            parts.belongings.take(count);
        }
    }

    pub(crate) fn into_parts(mut self) -> Option<Parts> {
        self.parts.take()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Some(Parts { mailbox, belongings }) = self.parts.take() {
            drop(mailbox);
            self.residents.put_back(&self.name, belongings);
        }
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("name", &self.name)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

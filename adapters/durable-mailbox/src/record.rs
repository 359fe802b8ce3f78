//! What is written into the journal, and what it adds up to.
//!
//! Every record is an event of kind [`KIND`] whose payload is a [`Record`] in postcard's format. A mailbox's or an outbox's
//! state is its records, applied in order: the same function does it live and at a restart, so the two cannot differ.

use std::collections::{HashMap, VecDeque};

use pmem_journal::{EntityId, Journal};
use serde::{Deserialize, Serialize};
use transport::Reference;

use crate::error::Error;

/// The kind of this crate's events in the journal: an application that shares the journal uses others.
pub const KIND: u16 = 0xffd0;

/// One record.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Record<'r> {
    /// Of an outbox: a message, whose number is the event's sequence.
    Sent {
        /// The message.
        #[serde(borrow)]
        payload: &'r [u8],
    },
    /// Of an outbox: the receiver has all messages up to this one.
    Acknowledged {
        /// Its number.
        until: u64,
    },
    /// Of an outbox: the mailbox lives there now.
    Redirected {
        /// Where.
        to: Reference,
    },
    /// Of a mailbox: a message came.
    Accepted {
        /// Which outbox sent it.
        sender: u128,
        /// Its number there.
        sequence: u64,
        /// The message.
        #[serde(borrow)]
        payload: &'r [u8],
    },
    /// Of a mailbox: so many of the oldest messages were taken.
    Taken {
        /// How many.
        count: u32,
    },
    /// Of a mailbox: this node owns it, with these belongings.
    Here {
        /// The mailbox's name.
        name: String,
        /// Counts its owners.
        epoch: u64,
        /// All that it has.
        belongings: Belongings,
    },
    /// Of a mailbox: it was offered to another node. Until that is settled this node neither accepts nor takes.
    Offered {
        /// The mailbox's name.
        name: String,
        /// The epoch that the other node would own it in.
        epoch: u64,
        /// The other node's home.
        to: Reference,
    },
    /// Of a mailbox: another node has it.
    Released {
        /// The mailbox's name.
        name: String,
        /// The epoch that the other node owns it in.
        epoch: u64,
        /// The mailbox there.
        at: Reference,
    },
    /// Of a mailbox: this node has not adopted it in this epoch and never will.
    Declined {
        /// The mailbox's name.
        name: String,
        /// The epoch.
        epoch: u64,
    },
    /// Of a mailbox: the offer came to nothing; this node owns it as before.
    Reclaimed {
        /// The mailbox's name.
        name: String,
        /// The epoch of the offer, which is used up.
        epoch: u64,
    },
}

impl Record<'_> {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and bytes into memory that grows: nothing in it can fail.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Record<'_>, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => Ok(record),
            Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Everything that a mailbox has, as it travels in a hand-over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Belongings {
    /// The last message accepted of each outbox.
    pub(crate) accepted: HashMap<u128, u64>,
    /// Messages accepted and not taken, oldest first.
    pub(crate) pending: VecDeque<Pending>,
    /// What the owner before gave along; `None` once anything was taken here.
    pub(crate) state: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) sender: u128,
    pub(crate) sequence: u64,
    pub(crate) payload: Vec<u8>,
}

impl Belongings {
    /// The number of the next message of this outbox.
    pub(crate) fn expects(&self, sender: u128) -> u64 {
        self.accepted.get(&sender).map_or(1, |last| last + 1)
    }

    pub(crate) fn accept(&mut self, message: Pending) {
        self.accepted.insert(message.sender, message.sequence);
        self.pending.push_back(message);
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.state = None;
        self.pending.drain(..count.min(self.pending.len()));
    }
}

/// Where a mailbox lives, as far as this node knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Residence {
    /// Here.
    Here,
    /// Here or there: an offer that is not settled. Its epoch is the one to ask about, whatever this node has heard of since.
    Offered { to: Reference, epoch: u64 },
    /// There.
    Elsewhere { at: Reference },
    /// Never here; an offer was declined.
    Unknown,
}

/// A mailbox that this node's journal knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) residence: Residence,
    /// The highest epoch that this node has heard of.
    pub(crate) epoch: u64,
    /// The last epoch in which this node became the owner.
    pub(crate) adopted: u64,
    pub(crate) belongings: Belongings,
}

/// The entity of a mailbox's records.
pub(crate) fn mailbox_entity(name: &str) -> EntityId {
    EntityId::named(&format!("durable-mailbox/mailbox/{name}"))
}

/// Adds up the records of all mailboxes in the journal.
pub(crate) fn known_mailboxes(journal: &Journal) -> Result<HashMap<String, Known>, Error> {
    let mut known = HashMap::new();
    let mut names: HashMap<EntityId, String> = HashMap::new();
    let mut replay = journal.replay_kept()?;
    while let Some(event) = replay.next_event()? {
        if event.kind != KIND {
            continue;
        }
        let (position, entity) = (event.position, event.entity);
        let record =
            Record::from_bytes(event.payload).map_err(|cause| Error::NotARecord { position, cause })?;
        if let Record::Here { name, .. }
        | Record::Offered { name, .. }
        | Record::Released { name, .. }
        | Record::Declined { name, .. }
        | Record::Reclaimed { name, .. } = &record
        {
            names.insert(entity, name.clone());
        }
        if let Some(name) = names.get(&entity) {
            apply(known.entry(name.clone()).or_insert_with(Known::nothing), record);
        }
    }
    Ok(known)
}

impl Known {
    pub(crate) fn nothing() -> Known {
        Known {
            residence: Residence::Unknown,
            epoch: 0,
            adopted: 0,
            belongings: Belongings::default(),
        }
    }
}

/// What one record changes.
pub(crate) fn apply(known: &mut Known, record: Record<'_>) {
    match record {
        Record::Accepted {
            sender,
            sequence,
            payload,
        } => known.belongings.accept(Pending {
            sender,
            sequence,
            payload: payload.to_vec(),
        }),
        Record::Taken { count } => known.belongings.take(count as usize),
        Record::Here {
            epoch, belongings, ..
        } => {
            *known = Known {
                residence: Residence::Here,
                epoch,
                adopted: epoch,
                belongings,
            }
        }
        Record::Offered { epoch, to, .. } => {
            known.residence = Residence::Offered { to, epoch };
            known.epoch = epoch;
        }
        Record::Released { epoch, at, .. } => {
            *known = Known {
                residence: Residence::Elsewhere { at },
                // A later one may have been declined meanwhile, and stays so.
                epoch: known.epoch.max(epoch),
                adopted: known.adopted,
                belongings: Belongings::default(),
            }
        }
        Record::Declined { epoch, .. } => known.epoch = known.epoch.max(epoch),
        Record::Reclaimed { epoch, .. } => {
            known.residence = Residence::Here;
            known.epoch = known.epoch.max(epoch);
        }
        // Of an outbox, which has an entity of its own.
        Record::Sent { .. } | Record::Acknowledged { .. } | Record::Redirected { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_of_a_record_is_an_error_and_none_panics() {
        let record = Record::Accepted {
            sender: 7,
            sequence: 300,
            payload: b"hello",
        };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Ok(record));
        for len in 0..bytes.len() {
            assert!(Record::from_bytes(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn a_mailbox_is_what_its_records_add_up_to() {
        let mut known = Known::nothing();
        let name = || "inbox".to_owned();
        let elsewhere = Reference {
            node: "b".into(),
            addresses: vec![],
            mailbox: "home".into(),
        };
        apply(
            &mut known,
            Record::Here {
                name: name(),
                epoch: 1,
                belongings: Belongings::default(),
            },
        );
        for sequence in 1..=3 {
            apply(
                &mut known,
                Record::Accepted {
                    sender: 9,
                    sequence,
                    payload: b"x",
                },
            );
        }
        apply(&mut known, Record::Taken { count: 2 });
        assert_eq!(
            (known.belongings.expects(9), known.belongings.pending.len()),
            (4, 1)
        );
        let before = known.belongings.clone();
        apply(
            &mut known,
            Record::Offered {
                name: name(),
                epoch: 2,
                to: elsewhere.clone(),
            },
        );
        apply(
            &mut known,
            Record::Reclaimed {
                name: name(),
                epoch: 2,
            },
        );
        assert_eq!((&known.residence, &known.belongings), (&Residence::Here, &before));
        apply(
            &mut known,
            Record::Released {
                name: name(),
                epoch: 3,
                at: elsewhere,
            },
        );
        assert_eq!((known.epoch, known.belongings), (3, Belongings::default()));
    }

    #[test]
    fn an_offer_keeps_its_epoch_and_what_was_declined_meanwhile_stays_declined() {
        let mut known = Known::nothing();
        let name = || "inbox".to_owned();
        let there = Reference {
            node: "b".into(),
            addresses: vec![],
            mailbox: "home".into(),
        };
        let (to, at) = (there.clone(), there);
        let offered = Record::Offered {
            name: name(),
            epoch: 2,
            to: to.clone(),
        };
        apply(&mut known, offered);
        apply(
            &mut known,
            Record::Declined {
                name: name(),
                epoch: 3,
            },
        );
        assert_eq!(
            (&known.residence, known.epoch),
            (&Residence::Offered { to, epoch: 2 }, 3)
        );
        let released = Record::Released {
            name: name(),
            epoch: 2,
            at,
        };
        apply(&mut known, released);
        assert_eq!(known.epoch, 3);
    }
}

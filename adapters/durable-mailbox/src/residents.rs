//! The mailboxes that a node knows: who owns each, as its journal says, and what this node has of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmem_journal::{Event, Expected, Journal};
use transport::Node;

use crate::error::Error;
use crate::record::{Belongings, KIND, Known, Record, mailbox_entity};
use crate::stand_in::StandIn;

/// A mailbox.
pub(crate) struct Resident {
    /// Without the belongings while the mailbox is open: then its inbox has them.
    pub(crate) known: Known,
    pub(crate) open: bool,
    pub(crate) stand_in: Option<StandIn>,
    /// A thread is finding out who owns it.
    pub(crate) settling: bool,
}

impl Resident {
    pub(crate) fn nobody() -> Resident {
        Resident {
            known: Known::nothing(),
            open: false,
            stand_in: None,
            settling: false,
        }
    }
}

/// All of them by name, the node that they are on, and the journal that has the last word.
pub(crate) struct Residents {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    by_name: Mutex<HashMap<String, Resident>>,
}

impl Residents {
    pub(crate) fn new(node: Arc<Node>, journal: Arc<Journal>) -> Residents {
        Residents {
            node,
            journal,
            by_name: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<String, Resident>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change of ownership durable.
    pub(crate) fn record(&self, name: &str, record: &Record<'_>) -> Result<(), Error> {
        let bytes = record.to_bytes();
        let event = Event::new(mailbox_entity(name), KIND, &bytes);
        self.journal.append(&[event], Expected::Any)?;
        Ok(())
    }

    /// The mailbox is closed; it had these.
    pub(crate) fn put_back(&self, name: &str, belongings: Belongings) {
        if let Some(resident) = self.lock().get_mut(name) {
            resident.known.belongings = belongings;
            resident.open = false;
        }
    }
}

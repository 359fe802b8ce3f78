//! What a home and its threads share.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use transport::typed::Mailbox;
use transport::{MailboxOptions, Reference};

use crate::error::Error;
use crate::inbox::{Inbox, Parts};
use crate::residents::{Resident, Residents};
use crate::stand_in::StandIn;
use crate::wire::Packets;

pub(crate) struct HomeState {
    pub(crate) residents: Arc<Residents>,
    pub(crate) options: MailboxOptions,
    pub(crate) arrivals: Mutex<Sender<Inbox>>,
    pub(crate) closed: AtomicBool,
}

impl HomeState {
    /// How others reach a mailbox of this node.
    pub(crate) fn reference(&self, mailbox: &str) -> Reference {
        Reference {
            node: self.residents.node.name().to_owned(),
            addresses: self.residents.node.addresses().to_vec(),
            mailbox: mailbox.to_owned(),
        }
    }

    /// The node's mailbox of this name: from the one who stands in for it, or opened.
    pub(crate) fn mailbox(&self, name: &str, stand_in: Option<StandIn>) -> Result<Mailbox<Packets>, Error> {
        match stand_in.and_then(StandIn::stop) {
            Some(mailbox) => Ok(mailbox),
            None => Ok(self.residents.node.typed_mailbox::<Packets>(name, self.options)?),
        }
    }

    /// From here on the inbox has what belongs to the mailbox. This node owns it.
    pub(crate) fn open(&self, name: &str, resident: &mut Resident, mailbox: Mailbox<Packets>) -> Inbox {
        resident.open = true;
        let belongings = std::mem::take(&mut resident.known.belongings);
        Inbox::new(self.residents.clone(), name, Parts { mailbox, belongings })
    }

    pub(crate) fn arrive(&self, inbox: Inbox) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        // When nobody listens the inbox is dropped: closed here, and owned here still.
        let _ = arrivals.send(inbox);
    }
}

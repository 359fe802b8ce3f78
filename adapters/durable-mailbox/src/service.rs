//! What a home does for other homes: adopts mailboxes, and says whether it has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use transport::typed::{Mailbox, RecvError};

use crate::home::{Inner, Resident};
use crate::inbox::{Inbox, Parts};
use crate::record::{Belongings, Record, Residence, apply};
use crate::wire::{Reply, Talk};

pub(crate) fn run(inner: &Arc<Inner>, mut talk: Mailbox<Talk>) {
    const LOOK_AROUND: Duration = Duration::from_millis(100);
    while !inner.closed.load(Ordering::Acquire) {
        match talk.recv_timeout(LOOK_AROUND) {
            Ok(Some(message)) => {
                let asker = message.asker();
                let (reply, arrived) = match message.body {
                    Talk::Adopt {
                        name,
                        epoch,
                        belongings,
                    } => adopt(inner, &name, epoch, belongings),
                    Talk::Adopted { name, epoch } => (adopted(inner, &name, epoch), None),
                };
                // The other side first: it is waiting. A reply that is lost is asked for again.
                let _ = asker.map(|asker| asker.answer(&reply));
                if let Some(inbox) = arrived {
                    inner.arrive(inbox);
                }
            }
            Ok(None) | Err(RecvError::Undecodable(_)) => {}
            Err(RecvError::Closed(_)) => return,
        }
    }
}

/// Owns the mailbox from here on, if it may. Ownership begins when the record `Here` is durable.
fn adopt(inner: &Arc<Inner>, name: &str, epoch: u64, belongings: Belongings) -> (Reply, Option<Inbox>) {
    let mut residents = inner.residents();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    if resident.known.adopted >= epoch {
        return (Reply::Adopted(inner.reference(name)), None);
    }
    if resident.known.epoch >= epoch || resident.known.residence == Residence::Here {
        let cause = format!("epoch {} of the mailbox is known here", resident.known.epoch);
        return (Reply::Declined(cause), None);
    }
    let mailbox = match inner.mailbox(name, resident.stand_in.take()) {
        Ok(mailbox) => mailbox,
        // Not declined for ever: nothing is recorded, and whoever offers it will ask.
        Err(error) => return (Reply::Failed(error.to_string()), None),
    };
    let record = Record::Here {
        name: name.to_owned(),
        epoch,
        belongings,
    };
    if let Err(error) = inner.record(name, &record) {
        return (Reply::Failed(error.to_string()), None);
    }
    apply(&mut resident.known, record);
    resident.open = true;
    let belongings = std::mem::take(&mut resident.known.belongings);
    let inbox = Inbox::new(inner.clone(), name, Parts { mailbox, belongings });
    (Reply::Adopted(inner.reference(name)), Some(inbox))
}

/// Whether this node became the owner in that epoch; if not, it never will, and that is durable before it is said.
fn adopted(inner: &Inner, name: &str, epoch: u64) -> Reply {
    let mut residents = inner.residents();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    if resident.known.adopted >= epoch {
        return Reply::Adopted(inner.reference(name));
    }
    if resident.known.epoch < epoch {
        let record = Record::Declined {
            name: name.to_owned(),
            epoch,
        };
        if let Err(error) = inner.record(name, &record) {
            return Reply::Failed(error.to_string());
        }
        apply(&mut resident.known, record);
    }
    Reply::Declined("it was not adopted in time".into())
}

//! What a home does for other homes: adopts mailboxes, and says whether it has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use transport::typed::{Mailbox, RecvError};

use crate::home_state::HomeState;
use crate::inbox::Inbox;
use crate::record::{Belongings, Record, Residence, apply};
use crate::residents::Resident;
use crate::wire::{Reply, Talk};

pub(crate) fn run(home: &HomeState, mut talk: Mailbox<Talk>) {
    const LOOK_AROUND: Duration = Duration::from_millis(100);
    while !home.closed.load(Ordering::Acquire) {
        match talk.recv_timeout(LOOK_AROUND) {
            Ok(Some(message)) => {
                let asker = message.asker();
                let (reply, arrived) = match message.body {
                    Talk::Adopt {
                        name,
                        epoch,
                        belongings,
                    } => adopt(home, &name, epoch, belongings),
                    Talk::Adopted { name, epoch } => (adopted(home, &name, epoch), None),
                };
                // The other side first: it is waiting. A reply that is lost is asked for again.
                let _ = asker.map(|asker| asker.answer(&reply));
                if let Some(inbox) = arrived {
                    home.arrive(inbox);
                }
            }
            Ok(None) | Err(RecvError::Undecodable(_)) => {}
            Err(RecvError::Closed(_)) => return,
        }
    }
}

/// Owns the mailbox from here on, if it may. Ownership begins when the record `Here` is durable.
fn adopt(home: &HomeState, name: &str, epoch: u64, belongings: Belongings) -> (Reply, Option<Inbox>) {
    let mut residents = home.residents.lock();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    if resident.known.adopted >= epoch {
        return (Reply::Adopted(home.reference(name)), None);
    }
    if resident.known.epoch >= epoch || resident.known.residence == Residence::Here {
        let cause = format!("epoch {} of the mailbox is known here", resident.known.epoch);
        return (Reply::Declined(cause), None);
    }
    let mailbox = match home.mailbox(name, resident.stand_in.take()) {
        Ok(mailbox) => mailbox,
        // Not declined for ever: nothing is recorded, and whoever offers it will ask.
        Err(error) => return (Reply::Failed(error.to_string()), None),
    };
    let record = Record::Here {
        name: name.to_owned(),
        epoch,
        belongings,
    };
    if let Err(error) = home.residents.record(name, &record) {
        return (Reply::Failed(error.to_string()), None);
    }
    apply(&mut resident.known, record);
    let inbox = home.open(name, resident, mailbox);
    (Reply::Adopted(home.reference(name)), Some(inbox))
}

/// Whether this node became the owner in that epoch; if not, it never will, and that is durable before it is said.
fn adopted(home: &HomeState, name: &str, epoch: u64) -> Reply {
    let mut residents = home.residents.lock();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    if resident.known.adopted >= epoch {
        return Reply::Adopted(home.reference(name));
    }
    if resident.known.epoch < epoch {
        let record = Record::Declined {
            name: name.to_owned(),
            epoch,
        };
        if let Err(error) = home.residents.record(name, &record) {
            return Reply::Failed(error.to_string());
        }
        apply(&mut resident.known, record);
    }
    Reply::Declined("it was not adopted in time".into())
}

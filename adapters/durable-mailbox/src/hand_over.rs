//! Handing a mailbox over: its name, the messages that were accepted and not taken, what was accepted of whom, and what its
//! owner gives along. At every moment the journals of the two nodes agree on at most one owner:
//!
//! | this node's journal | the other's | owner |
//! | --- | --- | --- |
//! | Here | | this node |
//! | Offered | | nobody acts: this node neither accepts nor takes |
//! | Offered | Here | the other |
//! | Released | Here | the other |
//! | Offered | Declined | nobody acts yet; the other never will |
//! | Reclaimed | Declined | this node |
//!
//! An offer is settled by its own epoch, also where this node has heard of a later one meanwhile: the other may have adopted
//! the mailbox and offered it back before this node knew, and each then asks about its own offer.
//!
//! After a crash in a row where nobody acts, this node asks until it has an answer, and the answer is durable at the other
//! side before it is given. An outbox that asks meanwhile is told to ask again; afterwards, where the mailbox is.

use std::time::Duration;

use transport::Reference;

use crate::error::Error;
use crate::home::Home;
use crate::home_state::HomeState;
use crate::inbox::{Inbox, Parts};
use crate::record::{Belongings, Record, apply};
use crate::residents::Resident;
use crate::settling::{Settled, settle, talk};
use crate::stand_in::StandIn;
use crate::wire::{HowFar, Reply, Talk};

/// Why a mailbox was not handed over, and who owns it now.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The other side does not have it and never will by this hand-over. This node owns it, as before.
    #[error("not handed over, and still owned here: {cause}")]
    Kept {
        /// The mailbox.
        inbox: Box<Inbox>,
        /// Why.
        cause: String,
    },
    /// Nobody knows yet: the other side could not be asked. It will be, again and again; if this node owns the mailbox it
    /// comes out of [`Home::arrivals`]. Until then nobody here takes its messages; none is lost.
    #[error("in doubt until node {node} can be asked: {cause}")]
    InDoubt {
        /// The other node.
        node: String,
        /// Why it could not be asked.
        cause: String,
    },
    /// The journal failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// How often, and after which pause, an answer that did not come is asked for before the hand-over is in doubt.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

impl Home {
    /// Hands a mailbox over to another home. Its outboxes follow it, and nothing they send is lost, doubled or reordered.
    /// `state` is what the new owner finds in [`Inbox::state`]: say, a snapshot of the actor that goes with the mailbox.
    ///
    /// Blocks for the exchange, and for some seconds where the other side does not answer.
    ///
    /// # Errors
    /// [`HandOverError`], which says who owns the mailbox.
    pub fn hand_over(&self, inbox: Inbox, state: Vec<u8>, to: &Reference) -> Result<(), HandOverError> {
        let home = &*self.state;
        let name = inbox.name().to_owned();
        let Some(parts) = inbox.into_parts() else {
            return Err(Error::AlreadyOpen.into());
        };
        let belongings = Belongings {
            state: Some(state),
            ..parts.belongings.clone()
        };
        let epoch = offer(home, &name, parts, to)?;
        let adopt = Talk::Adopt {
            name: name.clone(),
            epoch,
            belongings,
        };
        let mut reply = talk(home, to, &adopt);
        for _ in 0..ATTEMPTS {
            if matches!(reply, Ok(Reply::Adopted(_) | Reply::Declined(_))) {
                break;
            }
            std::thread::sleep(PAUSE);
            let name = name.clone();
            reply = talk(home, to, &Talk::Adopted { name, epoch });
        }
        match settle(home, &name, epoch, reply)? {
            Ok(Settled::Released) => Ok(()),
            Ok(Settled::Kept(Some(inbox), cause)) => Err(HandOverError::Kept { inbox, cause }),
            // Adopted there and handed back since: it is among the arrivals.
            Ok(Settled::Kept(None, _)) => Ok(()),
            Err(cause) => Err(HandOverError::InDoubt {
                node: to.node.clone(),
                cause,
            }),
        }
    }
}

/// From here on this node neither accepts nor takes.
fn offer(home: &HomeState, name: &str, parts: Parts, to: &Reference) -> Result<u64, HandOverError> {
    let mut residents = home.residents.lock();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    let epoch = resident.known.epoch + 1;
    let record = Record::Offered {
        name: name.to_owned(),
        epoch,
        to: to.clone(),
    };
    let offered = home.residents.record(name, &record);
    resident.open = false;
    resident.known.belongings = parts.belongings;
    offered?;
    apply(&mut resident.known, record);
    resident.settling = true;
    resident.stand_in = Some(StandIn::start(
        &home.residents.node,
        parts.mailbox,
        HowFar::NotNow,
    )?);
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use pmem_journal::{Event, Expected, Journal};
    use transport::{MailboxOptions, Node};
    use transport_tcp::Tcp;

    use super::*;
    use crate::record::{KIND, Residence, mailbox_entity};

    /// A node and its journal.
    fn place(name: &str, dir: &std::path::Path) -> (Arc<Node>, Arc<Journal>) {
        let node = Node::builder(name)
            .secret(b"a hand-over, a shared secret")
            .transport(Tcp::new())
            .listen("tcp://127.0.0.1:0");
        let options = pmem_journal::Options::new().segment_size(1 << 20);
        let journal = Journal::open_with(dir.join(name), &options).unwrap().0;
        (Arc::new(node.start().unwrap()), Arc::new(journal))
    }

    fn write(journal: &Journal, record: &Record<'_>) {
        let bytes = record.to_bytes();
        let event = Event::new(mailbox_entity("inbox"), KIND, &bytes);
        journal.append(&[event], Expected::Any).unwrap();
    }

    fn home_of(node: &Node) -> Reference {
        Reference {
            node: node.name().to_owned(),
            addresses: node.addresses().to_vec(),
            mailbox: "durable-mailbox home".into(),
        }
    }

    /// The first node offered the mailbox and crashed before it knew that it was adopted; the second offered it back, and
    /// was told that the first would never adopt that.
    #[test]
    fn two_offers_that_crossed_a_crash_leave_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let ((first, at_first), (second, at_second)) =
            (place("first", dir.path()), place("second", dir.path()));
        let name = || "inbox".to_owned();
        let here = |epoch| Record::Here {
            name: name(),
            epoch,
            belongings: Belongings::default(),
        };
        let offered = |epoch, to: &Node| Record::Offered {
            name: name(),
            epoch,
            to: home_of(to),
        };
        for record in [
            here(1),
            offered(2, &second),
            Record::Declined {
                name: name(),
                epoch: 3,
            },
        ] {
            write(&at_first, &record);
        }
        for record in [here(2), offered(3, &first)] {
            write(&at_second, &record);
        }
        let open = |node: Arc<Node>, journal| Home::open(node, journal, MailboxOptions::default()).unwrap();
        let homes = [open(first, at_first), open(second, at_second)];
        let settled = |home: &Home| {
            let residents = home.state.residents.lock();
            !matches!(residents["inbox"].known.residence, Residence::Offered { .. })
        };
        let start = Instant::now();
        while !homes.iter().all(settled) {
            assert!(start.elapsed() < Duration::from_secs(60), "still in doubt");
            std::thread::sleep(Duration::from_millis(5));
        }
        let owned = homes.each_ref().map(|home| home.owned().len());
        assert_eq!(owned, [0, 1]);
    }
}

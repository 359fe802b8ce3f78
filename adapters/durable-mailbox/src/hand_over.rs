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

use std::sync::Arc;
use std::time::Duration;

use transport::Reference;
use transport::typed;

use crate::error::Error;
use crate::home::{Home, Inner, Resident};
use crate::inbox::{Inbox, Parts};
use crate::record::{Belongings, Record, Residence, apply};
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

/// How long the other home may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often, and after which pause, an answer that did not come is asked for before the hand-over is in doubt.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// Who owns the mailbox after all.
pub(crate) enum Settled {
    /// The other node.
    Released,
    /// This node: here it is. Or, the mailbox has come back meanwhile by a later hand-over.
    Kept(Option<Box<Inbox>>, String),
}

impl Home {
    /// Hands a mailbox over to another home. Its outboxes follow it, and nothing they send is lost, doubled or reordered.
    /// `state` is what the new owner finds in [`Inbox::state`]: say, a snapshot of the actor that goes with the mailbox.
    ///
    /// Blocks for the exchange, and for some seconds where the other side does not answer.
    ///
    /// # Errors
    /// [`HandOverError`], which says who owns the mailbox.
    pub fn hand_over(&self, inbox: Inbox, state: Vec<u8>, to: &Reference) -> Result<(), HandOverError> {
        let inner = &self.inner;
        let name = inbox.name().to_owned();
        let Some(parts) = inbox.into_parts() else {
            return Err(Error::AlreadyOpen.into());
        };
        let belongings = Belongings {
            state: Some(state),
            ..parts.belongings.clone()
        };
        let epoch = offer(inner, &name, parts, to)?;
        let adopt = Talk::Adopt {
            name: name.clone(),
            epoch,
            belongings,
        };
        let mut reply = talk(inner, to, &adopt);
        for _ in 0..ATTEMPTS {
            if matches!(reply, Ok(Reply::Adopted(_) | Reply::Declined(_))) {
                break;
            }
            std::thread::sleep(PAUSE);
            let name = name.clone();
            reply = talk(inner, to, &Talk::Adopted { name, epoch });
        }
        match settle(inner, &name, epoch, reply)? {
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
fn offer(inner: &Arc<Inner>, name: &str, parts: Parts, to: &Reference) -> Result<u64, HandOverError> {
    let mut residents = inner.residents();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    let epoch = resident.known.epoch + 1;
    let record = Record::Offered {
        name: name.to_owned(),
        epoch,
        to: to.clone(),
    };
    let offered = inner.record(name, &record);
    resident.open = false;
    resident.known.belongings = parts.belongings;
    offered?;
    apply(&mut resident.known, record);
    resident.settling = true;
    resident.stand_in = Some(StandIn::start(&inner.node, parts.mailbox, HowFar::NotNow)?);
    Ok(epoch)
}

/// Asks another home something.
pub(crate) fn talk(inner: &Inner, to: &Reference, what: &Talk) -> Result<Reply, String> {
    let home = inner
        .node
        .resolve_typed::<Talk>(&typed::Reference::from(to.clone()))
        .map_err(|error| error.to_string())?;
    home.ask(what, ANSWER_WITHIN).map_err(|error| error.to_string())
}

/// Takes the other side's answer over. Without one the mailbox stays offered, and the reason comes back.
pub(crate) fn settle(
    inner: &Arc<Inner>,
    name: &str,
    epoch: u64,
    reply: Result<Reply, String>,
) -> Result<Result<Settled, String>, Error> {
    let mut residents = inner.residents();
    let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
    resident.settling = false;
    let offered =
        matches!(&resident.known.residence, Residence::Offered { epoch: offered, .. } if *offered == epoch);
    if !offered {
        return Ok(Ok(Settled::Kept(None, "it has been settled since".into())));
    }
    let name = || name.to_owned();
    match reply {
        Ok(Reply::Adopted(at)) => {
            let record = Record::Released {
                name: name(),
                epoch,
                at: at.clone(),
            };
            inner.record(&name(), &record)?;
            apply(&mut resident.known, record);
            if let Some(stand_in) = &resident.stand_in {
                stand_in.set(HowFar::Moved(at));
            }
            Ok(Ok(Settled::Released))
        }
        Ok(Reply::Declined(cause)) => {
            let record = Record::Reclaimed { name: name(), epoch };
            inner.record(&name(), &record)?;
            apply(&mut resident.known, record);
            let mailbox = inner.mailbox(&name(), resident.stand_in.take())?;
            let belongings = std::mem::take(&mut resident.known.belongings);
            resident.open = true;
            let inbox = Inbox::new(inner.clone(), &name(), Parts { mailbox, belongings });
            Ok(Ok(Settled::Kept(Some(Box::new(inbox)), cause)))
        }
        Ok(Reply::Failed(cause)) | Err(cause) => Ok(Err(cause)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pmem_journal::{Event, Expected, Journal};
    use transport::{MailboxOptions, Node};
    use transport_tcp::Tcp;

    use super::*;
    use crate::record::{KIND, mailbox_entity};

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
            let residents = home.inner.residents();
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

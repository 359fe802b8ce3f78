//! How an offer of a mailbox is settled: the other home is asked, and its answer becomes durable here.

use std::time::Duration;

use transport::Reference;
use transport::typed;

use crate::error::Error;
use crate::home_state::HomeState;
use crate::inbox::Inbox;
use crate::record::{Record, Residence, apply};
use crate::residents::Resident;
use crate::wire::{HowFar, Reply, Talk};

/// How long the other home may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Who owns the mailbox after all.
pub(crate) enum Settled {
    /// The other node.
    Released,
    /// This node: here it is. Or, the mailbox has come back meanwhile by a later hand-over.
    Kept(Option<Box<Inbox>>, String),
}

/// Asks another home something.
pub(crate) fn talk(home: &HomeState, to: &Reference, what: &Talk) -> Result<Reply, String> {
    let other = home
        .residents
        .node
        .resolve_typed::<Talk>(&typed::Reference::from(to.clone()))
        .map_err(|error| error.to_string())?;
    other.ask(what, ANSWER_WITHIN).map_err(|error| error.to_string())
}

/// Takes the other side's answer over. Without one the mailbox stays offered, and the reason comes back.
pub(crate) fn settle(
    home: &HomeState,
    name: &str,
    epoch: u64,
    reply: Result<Reply, String>,
) -> Result<Result<Settled, String>, Error> {
    let mut residents = home.residents.lock();
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
            home.residents.record(&name(), &record)?;
            apply(&mut resident.known, record);
            if let Some(stand_in) = &resident.stand_in {
                stand_in.set(HowFar::Moved(at));
            }
            Ok(Ok(Settled::Released))
        }
        Ok(Reply::Declined(cause)) => {
            let record = Record::Reclaimed { name: name(), epoch };
            home.residents.record(&name(), &record)?;
            apply(&mut resident.known, record);
            let mailbox = home.mailbox(&name(), resident.stand_in.take())?;
            let inbox = home.open(&name(), resident, mailbox);
            Ok(Ok(Settled::Kept(Some(Box::new(inbox)), cause)))
        }
        Ok(Reply::Failed(cause)) | Err(cause) => Ok(Err(cause)),
    }
}

//! Our own sides, the things that are measured: nodes and mailboxes over each transport, and the journal.
//!
//! Each is a [`Side`] like the floor beside it, of the same work on the same sizes.

mod inbox;
mod journal;
mod node;
mod requester;
mod responder;
mod stages;

pub(crate) use inbox::Inbox;
#[cfg(feature = "journal-peers")]
pub(crate) use journal::opening;
pub(crate) use journal::{journal, required_mode};
pub(crate) use node::Setup;

use crate::error::Error;
use crate::measure::Side;
use crate::two_process::{Far, Role, TwoProcesses, Work};
use requester::Requester;
use responder::Responder;
use stages::InStages;

impl Role for Setup {
    const KIND: &'static str = "mailboxes";

    fn open(self) -> Result<Box<dyn Far>, Error> {
        Ok(Box::new(Responder::open(&self)?))
    }
}

/// Mailboxes in two processes.
pub(crate) fn messages(setup: Setup, work: Work) -> Result<Box<dyn Side>, Error> {
    let (role, size) = (setup.clone(), setup.size);
    let side = TwoProcesses::start(role, work, size, |address| Requester::connect(&setup, address))?;
    Ok(Box::new(side))
}

/// The same, one way, with each message sent when it is due: percentiles are from when it was meant to be sent.
pub(crate) fn paced(setup: Setup, rate: f64) -> Result<Box<dyn Side>, Error> {
    let (role, size) = (setup.clone(), setup.size);
    let side = TwoProcesses::start(role, Work::Stream, size, |address| {
        Requester::connect(&setup, address)
    })?;
    Ok(Box::new(side.at_rate(rate)))
}

/// Round trips of which each stage is timed.
pub(crate) fn in_stages(setup: Setup) -> Result<Box<dyn Side>, Error> {
    let (role, size) = (setup.clone(), setup.size);
    let side = TwoProcesses::start(role, Work::PingPong, size, |address| {
        InStages::new(Requester::connect(&setup, address)?, &setup)
    })?;
    Ok(Box::new(side))
}

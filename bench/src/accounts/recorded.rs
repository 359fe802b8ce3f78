//! The events of the accounts' journal, read back.

use super::Event;
use crate::error::{Error, failed};

/// The events of a journal, in order.
pub(super) fn recorded(mut replay: pmem_journal::Replay) -> impl Iterator<Item = Result<Event, Error>> {
    std::iter::from_fn(move || match replay.next_event() {
        Ok(None) => None,
        Ok(Some(recorded)) => Some(Event::from_bytes(recorded.payload).ok_or(Error::NotAnEvent {
            position: recorded.position,
        })),
        Err(error) => Some(Err(failed("reading the accounts' journal")(error))),
    })
}

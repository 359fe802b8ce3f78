//! The thread of an outbox: sends what is open, asks how far the mailbox has come, sends again what it did not get.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmem_journal::{Event, Expected};
use transport::typed::{Address, Reference};
use transport::{AskError, SendError};

use crate::outbox_state::{Shared, Status, Trouble};
use crate::record::{KIND, Record};
use crate::wire::{HowFar, Packet, Packets};

/// Messages sent between two questions.
const BATCH: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// Between two attempts to reach a mailbox that is out of reach.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Between two looks at a mailbox that is slow, or on the move.
const LONGEST_LOOK: Duration = Duration::from_millis(10);
/// Acknowledged messages after which the journal is told, so that a restart holds no more than that too many: it asks the
/// mailbox before it sends anything.
const RECORD_EVERY: u64 = 256;

/// How a round ended that was no trouble.
enum Round {
    Progress,
    /// Nothing was acknowledged, and nothing is wrong: the mailbox is slow, or on the move.
    Patience,
    /// The mailbox lives elsewhere now: go there.
    Moved,
}

pub(crate) fn run(shared: &Arc<Shared>) {
    let mut address = None;
    let mut pause = FIRST_PAUSE;
    let mut progress = Instant::now();
    loop {
        {
            let mut state = shared.state();
            while !state.stop && (state.open.is_empty() || matches!(state.status, Status::Stalled(_))) {
                state = shared.wait(state, Duration::from_secs(3600));
                progress = Instant::now();
            }
            if state.stop {
                return;
            }
        }
        match round(shared, &mut address) {
            Ok(Round::Progress) => {
                (pause, progress) = (FIRST_PAUSE, Instant::now());
                shared.state().status = Status::Delivering;
                continue;
            }
            // Moved again and again, it is followed with a pause each time.
            Ok(Round::Moved) => pause = FIRST_PAUSE,
            Ok(Round::Patience) => pause = pause.min(LONGEST_LOOK),
            Err(trouble) => {
                address = None;
                let stalled = trouble.is_lasting() || progress.elapsed() >= shared.options.patience;
                tracing::debug!(outbox = shared.name, %trouble, stalled, "not delivering");
                let mut state = shared.state();
                state.status = if stalled {
                    Status::Stalled(trouble)
                } else {
                    Status::Trying(trouble)
                };
                shared.tell();
            }
        }
        let state = shared.state();
        if !state.stop {
            drop(shared.wait(state, pause));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn out_of_reach(why: impl std::fmt::Display) -> Trouble {
    Trouble::OutOfReach(why.to_string())
}

fn round(shared: &Shared, address: &mut Option<Address<Packets>>) -> Result<Round, Trouble> {
    let to = match address {
        Some(address) => address,
        None => {
            let destination = Reference::from(shared.state().destination.clone());
            let found = shared.node.resolve_typed(&destination).map_err(out_of_reach)?;
            let found = address.insert(found);
            // What it has already need not be sent again.
            if let Some(ended) = ask(shared, found)? {
                *address = None;
                return Ok(ended);
            }
            found
        }
    };
    let batch: Vec<_> = {
        let state = shared.state();
        let mut next = state.acknowledged + 1;
        let in_order = state.open.iter().take_while(|(number, _)| {
            next += 1;
            **number + 1 == next
        });
        in_order
            .take(BATCH)
            .map(|(number, payload)| (*number, payload.clone()))
            .collect()
    };
    if batch.is_empty() {
        // The next number is still being appended.
        return Ok(Round::Patience);
    }
    for (sequence, payload) in batch {
        let packet = Packet::Delivery {
            sender: shared.sender,
            sequence,
            payload: &payload,
        };
        match to.send_timeout(&packet.to_bytes(), shared.options.answer_within) {
            Ok(()) => {}
            Err(SendError::TimedOut(_)) => return Ok(Round::Patience),
            Err(error) => return Err(out_of_reach(error)),
        }
    }
    let before = shared.state().acknowledged;
    if let Some(ended) = ask(shared, to)? {
        *address = None;
        return Ok(ended);
    }
    if shared.state().acknowledged > before {
        Ok(Round::Progress)
    } else {
        Ok(Round::Patience)
    }
}

/// Asks how far the mailbox has come, and takes that over. A round that this ends comes back: the mailbox is elsewhere.
fn ask(shared: &Shared, to: &Address<Packets>) -> Result<Option<Round>, Trouble> {
    let question = Packet::HowFar {
        sender: shared.sender,
    };
    match to.ask(&question.to_bytes(), shared.options.answer_within) {
        Ok(HowFar::Until(known)) => acknowledge(shared, known).map(|()| None),
        Ok(HowFar::Moved(at)) => {
            let record = Record::Redirected { to: at.clone() };
            note(shared, &record)?;
            shared.state().destination = at;
            Ok(Some(Round::Moved))
        }
        Ok(HowFar::NotNow) => Ok(Some(Round::Patience)),
        // It is alive and slow: asked again in a while.
        Err(AskError::TimedOut(_)) => Ok(Some(Round::Patience)),
        Err(error) => Err(out_of_reach(error)),
    }
}

fn acknowledge(shared: &Shared, known: u64) -> Result<(), Trouble> {
    let mut state = shared.state();
    if known < state.acknowledged {
        return Err(Trouble::ReceiverForgot {
            acknowledged: state.acknowledged,
            known,
        });
    }
    if known > state.last {
        return Err(Trouble::SenderForgot {
            known,
            sent: state.last,
        });
    }
    state.acknowledged = known;
    state.open = state.open.split_off(&(known + 1));
    let due = known >= state.recorded + RECORD_EVERY;
    if due {
        state.recorded = known;
    }
    drop(state);
    shared.tell();
    if due {
        note(shared, &Record::Acknowledged { until: known })?;
    }
    Ok(())
}

fn note(shared: &Shared, record: &Record<'_>) -> Result<(), Trouble> {
    let bytes = record.to_bytes();
    let event = Event::new(shared.notes(), KIND, &bytes);
    let noted = shared.journal.append(&[event], Expected::Any);
    noted
        .map(drop)
        .map_err(|error| Trouble::Journal(error.to_string()))
}

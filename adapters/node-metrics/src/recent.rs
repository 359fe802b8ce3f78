//! The latest dead letters and events, as the endpoint serves them at `/recent`: JSON, and never a message.

use serde::{Deserialize, Serialize};
use transport::observe::Observer;
use transport::{DeadLetter, Event};

/// What `/recent` holds; each list oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// The latest dead letters, at most 64.
    pub dead_letters: Vec<Letter>,
    /// The latest events, at most 256.
    pub events: Vec<Happened>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Why it was not delivered.
    pub reason: String,
    /// The node that sent it; `None` for this one.
    pub from: Option<String>,
    /// The node that it was for; `None` for this one.
    pub to: Option<String>,
    /// The mailbox that it was for.
    pub mailbox: String,
    /// Its protocol, if it has one.
    pub protocol: Option<String>,
    /// Its correlation id, if it has one.
    pub correlation: Option<u64>,
    /// Its age when it died, in milliseconds, if that is known.
    pub age_ms: Option<u64>,
    /// Its length in bytes.
    pub len: usize,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// What.
    pub what: String,
}

impl Recent {
    pub(crate) fn of(observer: &Observer) -> Recent {
        let events = observer.recent_events().into_iter();
        Recent {
            dead_letters: observer
                .recent_dead_letters()
                .into_iter()
                .map(Letter::of)
                .collect(),
            events: events
                .map(|(age, event)| Happened {
                    ago_ms: age.as_millis() as u64,
                    what: in_words(&event),
                })
                .collect(),
        }
    }
}

impl Letter {
    fn of(letter: DeadLetter) -> Letter {
        Letter {
            reason: letter.reason.to_string(),
            from: letter.from,
            to: letter.node,
            mailbox: letter.mailbox,
            protocol: letter.protocol.map(|protocol| protocol.into_owned()),
            correlation: letter.correlation,
            age_ms: letter.age.map(|age| age.as_millis() as u64),
            len: letter.len,
        }
    }
}

fn in_words(event: &Event) -> String {
    let said = said_by(event);
    // A peer chooses its name: it is shown on terminals.
    match said.contains(char::is_control) {
        true => said.escape_debug().to_string(),
        false => said,
    }
}

fn said_by(event: &Event) -> String {
    match event {
        Event::Connected { node, link } => format!("{node} connected over {link}"),
        Event::Suspended { node, cause } => format!("{node} lost its link: {cause}"),
        Event::Resumed { node, link } => format!("{node} goes on over {link}"),
        Event::Ended { node, why } => format!("{node} is gone: {why}"),
        Event::HandshakeFailed { peer, cause } => format!("{peer} was turned away: {cause}"),
    }
}

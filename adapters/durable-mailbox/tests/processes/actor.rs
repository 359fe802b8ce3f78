//! A home in a process of its own, and the actor of the mailbox `numbers` while it is here.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use durable_mailbox::{HandOverError, Home, Inbox};
use pmem_journal::{EntityId, Event, Mode};
use transport::{MailboxOptions, Reference};

use crate::history::{History, State, TAKEN};
use crate::program::{journal, node, obey_lines};
use crate::sender;

/// What survives a process, and what of the actor goes with its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Durable journals; the number that was taken last goes along.
    DurableState,
    /// Journals that do nothing to be durable, and an actor that has no state.
    VolatileWithoutState,
    /// Durable journals; the state is in a snapshot and the events after it, and goes along.
    SnapshotAndTail,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [
        Kind::DurableState,
        Kind::VolatileWithoutState,
        Kind::SnapshotAndTail,
    ];

    pub(crate) fn mode(self) -> Mode {
        match self {
            Kind::DurableState | Kind::SnapshotAndTail => Mode::Buffered,
            Kind::VolatileWithoutState => Mode::Volatile,
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let kind = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name);
        kind.ok_or_else(|| format!("no kind of actor: {name}"))
    }
}

/// Takes so many messages between two snapshots.
const SNAPSHOT_EVERY: u64 = 100;

struct Actor {
    kind: Kind,
    home: Home,
    history: History,
    inbox: Option<Inbox>,
    /// As it came here with the mailbox or was made here; `None` where nobody knows.
    state: Option<State>,
}

pub(crate) fn live(kind: Kind, name: &str, dir: &Path, address: &str, other: &Reference, create: bool) {
    let (node, journal) = (node(name, Some(address)), journal(kind.mode(), dir));
    let home = Home::open(node, Arc::clone(&journal), MailboxOptions::default()).unwrap();
    let owned = home.owned().contains(&"numbers".to_owned());
    let inbox = (create || owned)
        .then(|| home.inbox("numbers"))
        .and_then(Result::ok);
    let actor = EntityId::named("effects");
    let mut actor = Actor {
        kind,
        home,
        history: History { journal, actor },
        inbox: None,
        state: None,
    };
    if let Some(inbox) = inbox {
        actor.arrive(inbox);
    }
    let (orders, obeyed) = channel();
    obey_lines(move |line| drop(orders.send(line.to_owned())));
    println!("ready");
    loop {
        actor.obey(&obeyed, other);
        if let Some(inbox) = actor.home.arrivals(Duration::ZERO) {
            actor.arrive(inbox);
        }
        actor.take();
    }
}

impl Actor {
    /// The mailbox is here: from another home, back after a hand-over that was cut short, or since before this process.
    fn arrive(&mut self, inbox: Inbox) {
        match (self.kind, inbox.state()) {
            (Kind::VolatileWithoutState, _) => self.state = None,
            (_, Some([])) => self.state = None,
            (_, Some(state)) => self.state = Some(State::from_bytes(state)),
            // Something was taken here since it came.
            (Kind::SnapshotAndTail, None) => self.state = Some(self.history.state().0),
            (Kind::DurableState, None) => {}
        }
        self.inbox = Some(inbox);
    }

    fn obey(&mut self, orders: &Receiver<String>, other: &Reference) {
        match orders.try_recv().as_deref() {
            Ok("who") => {
                let owner = self.home.owned().contains(&"numbers".to_owned());
                println!("owner {owner}");
            }
            Ok("hand over") => {
                let outcome = match self.inbox.take() {
                    None => "not here",
                    Some(inbox) => self.hand_over(inbox, other),
                };
                println!("outcome {outcome}");
            }
            Ok(other) => panic!("{other}"),
            Err(_) => {}
        }
    }

    fn hand_over(&mut self, inbox: Inbox, other: &Reference) -> &'static str {
        if self.kind == Kind::SnapshotAndTail && inbox.state().is_none() {
            // What the journal says is what goes along, not what this process believes.
            assert_eq!(self.state, Some(self.history.state().0));
        }
        let state = match (self.kind, self.state) {
            (Kind::VolatileWithoutState, _) | (_, None) => Vec::new(),
            (_, Some(state)) => state.to_bytes().to_vec(),
        };
        match self.home.hand_over(inbox, state, other) {
            Ok(()) => "handed",
            Err(HandOverError::Kept { inbox, .. }) => {
                self.inbox = Some(*inbox);
                "kept"
            }
            Err(HandOverError::InDoubt { .. }) => "in doubt",
            Err(error) => panic!("{error}"),
        }
    }

    fn take(&mut self) {
        let Some(inbox) = &mut self.inbox else {
            std::thread::sleep(Duration::from_micros(200));
            return;
        };
        if inbox.next(Duration::from_millis(1)).unwrap().is_none() {
            return;
        }
        let numbers: Vec<u64> = inbox
            .all_pending()
            .take(7)
            .map(|delivery| sender::number(delivery.payload))
            .collect();
        for number in &numbers {
            match &mut self.state {
                Some(state) => state.take(*number),
                // The first one tells where it is.
                None => {
                    self.state = Some(State {
                        last: *number,
                        sum: number * (number + 1) / 2,
                    });
                }
            }
        }
        // The journal's own times are coarse; these tell in which order the two homes took.
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let bytes: Vec<_> = numbers
            .iter()
            .map(|number| [taken.to_le_bytes(), number.to_le_bytes()].concat())
            .collect();
        let carried = match self.kind {
            Kind::SnapshotAndTail => inbox.state().map(<[u8]>::to_vec),
            Kind::DurableState | Kind::VolatileWithoutState => None,
        };
        let carried = carried.filter(|state| !state.is_empty());
        let carried = carried.iter().map(|state| self.history.carried(state));
        let effects = bytes
            .iter()
            .map(|number| Event::new(self.history.actor, TAKEN, number));
        let events: Vec<_> = carried.chain(effects).collect();
        inbox.take(numbers.len(), &events).unwrap();
        let snapshot_due = numbers.iter().any(|number| number.is_multiple_of(SNAPSHOT_EVERY));
        if self.kind == Kind::SnapshotAndTail && snapshot_due {
            self.history.save_snapshot();
        }
    }
}

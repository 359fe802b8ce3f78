//! What an actor is, its snapshot and the events after it, goes with its mailbox, and is there again after a crash on
//! either side of a hand-over.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_mailbox::{Home, Inbox, Outbox, OutboxOptions};
use pmem_journal::{EntityId, Event, Mode};
use transport::{MailboxOptions, Node};

use crate::history::{History, State, TAKEN};
use crate::program::{PATIENCE, journal, node};

/// A node with the actor of the mailbox `amounts`, whose state is the sum of what it took.
struct Place {
    node: Arc<Node>,
    history: History,
    home: Option<Home>,
}

impl Place {
    fn open(name: &str, dir: &Path) -> Place {
        let (node, journal) = (
            node(name, Some("tcp://127.0.0.1:0")),
            journal(Mode::Buffered, dir),
        );
        let home = Home::open(node.clone(), journal.clone(), MailboxOptions::default()).unwrap();
        Place {
            node,
            history: History {
                journal,
                actor: EntityId::named("actor"),
            },
            home: Some(home),
        }
    }

    fn home(&self) -> &Home {
        self.home.as_ref().unwrap()
    }

    /// The home as after a crash: what its journal says.
    fn reopen(&mut self) -> Inbox {
        self.home = None;
        let home = Home::open(
            self.node.clone(),
            self.history.journal.clone(),
            MailboxOptions::default(),
        )
        .unwrap();
        let inbox = home.inbox("amounts").unwrap();
        self.home = Some(home);
        inbox
    }

    /// The sum, and how many events it was made of after the snapshot.
    fn state(&self) -> (u64, usize) {
        let (state, tail) = self.history.state();
        (state.sum, tail)
    }

    /// Takes one message, with the state that came along if this is the first. With a snapshot of what that makes, if told to.
    fn take(&self, inbox: &mut Inbox, snapshot: bool) {
        let amount = inbox.next(PATIENCE).unwrap().expect("in time").payload.to_vec();
        let carried = inbox.state().map(<[u8]>::to_vec);
        let carried = carried.iter().map(|state| self.history.carried(state));
        let taken = Event::new(self.history.actor, TAKEN, &amount);
        let events: Vec<_> = carried.chain([taken]).collect();
        inbox.take(1, &events).unwrap();
        if snapshot {
            self.history.save_snapshot();
        }
    }

    fn hand_over(&self, inbox: Inbox, to: &Place) -> Inbox {
        let state = self.history.state().0.to_bytes().to_vec();
        let there = to.home().reference();
        self.home().hand_over(inbox, state, &there).unwrap();
        to.home().arrivals(PATIENCE).expect("it arrives")
    }
}

fn sum(state: &[u8]) -> u64 {
    State::from_bytes(state).sum
}

#[test]
fn a_snapshot_and_its_tail_move_with_the_mailbox_and_survive_a_crash_at_either_home() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Place::open("a", &dir.path().join("a"));
    let mut b = Place::open("b", &dir.path().join("b"));
    let mut inbox = a.home().inbox("amounts").unwrap();
    let options = OutboxOptions {
        answer_within: Duration::from_millis(500),
        ..OutboxOptions::default()
    };
    let at_sender = journal(Mode::Buffered, &dir.path().join("sender"));
    let amounts = a.home().mailbox("amounts");
    let outbox = Outbox::open(node("sender", None), at_sender, "amounts", amounts, options).unwrap();
    for amount in 1..=12u64 {
        outbox.send(&amount.to_le_bytes()).unwrap();
    }
    // A snapshot after two, and a tail of two.
    for number in 1..=4 {
        a.take(&mut inbox, number == 2);
    }
    assert_eq!(a.state(), (10, 2));
    drop(inbox);
    inbox = a.reopen();
    assert_eq!(a.state(), (10, 2));

    let arrived = a.hand_over(inbox, &b);
    assert_eq!(arrived.state().map(sum), Some(10));
    // A crash before anything was taken: the state is with the mailbox still.
    drop(arrived);
    inbox = b.reopen();
    assert_eq!(inbox.state().map(sum), Some(10));
    for number in 5..=8 {
        b.take(&mut inbox, number == 7);
    }
    assert_eq!((b.state(), inbox.state()), ((36, 1), None));
    // A crash after that: it is in the journal.
    drop(inbox);
    inbox = b.reopen();
    assert_eq!((b.state(), inbox.state()), ((36, 1), None));

    // And back, where an older state of it stands in the journal.
    inbox = b.hand_over(inbox, &a);
    for _ in 9..=12 {
        a.take(&mut inbox, false);
    }
    assert_eq!(a.state().0, 78);
    drop(inbox);
    inbox = a.reopen();
    assert_eq!(a.state().0, 78);
    // The outbox hears how far its messages have come from whoever looks into the mailbox.
    let waiting = Instant::now();
    while !outbox.flush(Duration::from_millis(20)) {
        assert!(waiting.elapsed() < PATIENCE, "{outbox:?}");
        assert_eq!(inbox.next(Duration::from_millis(20)).unwrap(), None);
    }
}

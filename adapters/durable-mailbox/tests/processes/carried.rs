//! What an actor is, its snapshot and the events after it, goes with its mailbox, and is there again after a crash on
//! either side of a hand-over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable_mailbox::{Home, Inbox, Outbox, OutboxOptions};
use pmem_journal::{EntityId, Event, Journal, Mode, Snapshot};
use transport::{MailboxOptions, Node};

use crate::program::{PATIENCE, journal, node};

const ACTOR: EntityId = EntityId(0xac);
/// An amount that was added.
const ADDED: u16 = 1;
/// The state that came with the mailbox: whatever was here before is older.
const CARRIED: u16 = 2;

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// A node with the actor of the mailbox `amounts`, whose state is the sum of what it took.
struct Place {
    node: Arc<Node>,
    journal: Arc<Journal>,
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
            journal,
            home: Some(home),
        }
    }

    fn home(&self) -> &Home {
        self.home.as_ref().unwrap()
    }

    /// The home as after a crash: what its journal says.
    fn reopen(&mut self) -> Inbox {
        self.home = None;
        let home = Home::open(self.node.clone(), self.journal.clone(), MailboxOptions::default()).unwrap();
        let inbox = home.inbox("amounts").unwrap();
        self.home = Some(home);
        inbox
    }

    /// The sum, and how many events it was made of after the snapshot.
    fn state(&self) -> (u64, usize) {
        let mut history = self.journal.history(ACTOR).unwrap();
        let snapshot = history.take_snapshot();
        let mut sum = snapshot.map_or(0, |snapshot| number(&snapshot.payload));
        let mut tail = 0;
        for event in history {
            let event = event.unwrap();
            let amount = number(&event.payload);
            sum = if event.kind == CARRIED {
                amount
            } else {
                sum + amount
            };
            tail += 1;
        }
        (sum, tail)
    }

    /// Takes one message, with the state that came along if this is the first. With a snapshot of what that makes, if told to.
    fn take(&self, inbox: &mut Inbox, snapshot: bool) {
        let amount = inbox.next(PATIENCE).unwrap().expect("in time").payload.to_vec();
        let carried = inbox.state().map(<[u8]>::to_vec);
        let carried = carried.iter().map(|state| Event::new(ACTOR, CARRIED, state));
        let events: Vec<_> = carried.chain([Event::new(ACTOR, ADDED, &amount)]).collect();
        inbox.take(1, &events).unwrap();
        if snapshot {
            let (sum, _) = self.state();
            let newest = self
                .journal
                .history(ACTOR)
                .unwrap()
                .last()
                .expect("just taken")
                .unwrap();
            let snapshot = Snapshot::new(ACTOR, newest.sequence, newest.position, sum.to_le_bytes());
            self.journal.save_snapshots(&[snapshot], 2).unwrap();
        }
    }

    fn hand_over(&self, inbox: Inbox, to: &Place) -> Inbox {
        let state = self.state().0.to_le_bytes().to_vec();
        let there = to.home().reference();
        self.home().hand_over(inbox, state, &there).unwrap();
        to.home().arrivals(PATIENCE).expect("it arrives")
    }
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
    assert_eq!(arrived.state().map(number), Some(10));
    // A crash before anything was taken: the state is with the mailbox still.
    drop(arrived);
    inbox = b.reopen();
    assert_eq!(inbox.state().map(number), Some(10));
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
    let _inbox = a.reopen();
    assert_eq!(a.state().0, 78);
    assert!(outbox.flush(PATIENCE));
}

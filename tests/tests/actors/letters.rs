//! Why messages are not delivered, and what is said of them. (Drops are in `policies`, late answers in `asking`.)

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tests::audit::eventually;
use transport::{DeadLetter, Node, Overflow, Reason, SendError};

use crate::far::{Done, Number, Order, PATIENCE, pair};
use tests::over::Over;

/// All that a dead letter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) mailbox: String,
    pub(crate) protocol: Option<String>,
    pub(crate) correlation: Option<u64>,
    pub(crate) len: usize,
    pub(crate) age: Option<Duration>,
}

impl Letter {
    fn of(letter: DeadLetter) -> Letter {
        let shown = format!("{letter:?}");
        assert!(!shown.contains("payload"), "{shown}");
        Letter {
            from: letter.from,
            to: letter.node,
            mailbox: letter.mailbox,
            protocol: letter.protocol.map(|protocol| protocol.into_owned()),
            correlation: letter.correlation,
            len: letter.len,
            age: letter.age,
        }
    }

    /// What the sending process is told of a message to the far one.
    pub(crate) fn to_far(mailbox: &str, protocol: &str, correlation: Option<u64>, len: usize) -> Letter {
        Letter {
            from: None,
            to: Some("far".into()),
            mailbox: mailbox.into(),
            protocol: Some(protocol.into()),
            correlation,
            len,
            age: None,
        }
    }

    /// What the far process has of a message of the near one.
    pub(crate) fn from_near(mailbox: &str, protocol: &str, correlation: Option<u64>, len: usize) -> Letter {
        Letter {
            from: Some("near".into()),
            to: None,
            ..Letter::to_far(mailbox, protocol, correlation, len)
        }
    }

    /// All but its age, which no test knows exactly.
    pub(crate) fn without_age(&self) -> Letter {
        Letter {
            age: None,
            ..self.clone()
        }
    }
}

/// The latest of a node's letters for this reason.
pub(crate) fn of_reason(node: &Node, reason: Reason) -> Vec<Letter> {
    let letters = node.dead_letters().latest().into_iter();
    letters
        .filter(|letter| letter.reason == reason)
        .map(Letter::of)
        .collect()
}

fn a_mailbox_that_is_closed_returns_what_it_did_not_take(over: Over) {
    let pair = pair(over);
    let inbox = pair.open("inbox", 8, Overflow::Wait);
    let subscriber = pair.near.dead_letters().subscribe(8);
    for number in 0..2u64 {
        inbox
            .try_send_with(&number.to_le_bytes(), Some(number + 7))
            .unwrap();
    }
    // Behind them: they are in the mailbox when this is answered.
    assert_eq!(pair.order(Order::Echo(1)), Done::Numbers(vec![1]));
    std::thread::sleep(Duration::from_millis(50));
    let closed = pair.order(Order::Close { name: "inbox".into() });
    assert_eq!(closed, Done::AsTold);
    for number in 0..2 {
        let letter = subscriber.recv_timeout(PATIENCE).unwrap();
        assert_eq!(letter.reason, Reason::MailboxClosed);
        let letter = Letter::of(letter);
        assert_eq!(
            letter.without_age(),
            Letter::to_far("inbox", "bytes", Some(number + 7), 8)
        );
        let age = letter.age.expect("it waited in the mailbox");
        assert!(age >= Duration::from_millis(30) && age < PATIENCE, "{age:?}");
    }
    for (number, letter) in pair.far_letters(Reason::MailboxClosed, 2).iter().enumerate() {
        assert_eq!(
            letter.without_age(),
            Letter::from_near("inbox", "bytes", Some(number as u64 + 7), 8)
        );
        assert!(letter.age >= Some(Duration::from_millis(30)), "{letter:?}");
    }
    eventually("the address is known to be closed", || {
        matches!(inbox.try_send(&[0; 8]), Err(SendError::MailboxClosed { .. }))
    });
}

fn what_a_killed_process_did_not_acknowledge_is_a_dead_letter_with_all_that_is_known_of_it(over: Over) {
    let mut pair = pair(over);
    let opened = pair.order(Order::OpenTyped {
        name: "numbers".into(),
    });
    assert_eq!(opened, Done::AsTold);
    let numbers = pair.far.typed_address::<Number>("numbers").unwrap();
    // Stopped first, so that nothing is consumed any more.
    let dawdle = Order::Dawdle(Duration::from_secs(60));
    pair.orders.try_send(&dawdle).unwrap();
    pair.kill();
    let mut sent = 0;
    for number in 0..5 {
        if numbers
            .try_send_with(&Number(true, number), Some(number + 1))
            .is_ok()
        {
            sent += 1;
        }
    }
    eventually("the session ends", || pair.far.ended().is_some());
    let unacknowledged = || {
        let letters = pair.near.dead_letters().latest();
        letters
            .into_iter()
            .filter(|letter| letter.mailbox == "numbers")
            .collect::<Vec<_>>()
    };
    eventually("each has its letter", || unacknowledged().len() == sent);
    for (number, letter) in unacknowledged().into_iter().enumerate() {
        assert_eq!(letter.reason, Reason::Unacknowledged);
        assert!(letter.payload.is_some(), "it was in the ring");
        let (letter, correlation) = (Letter::of(letter), Some(number as u64 + 1));
        assert_eq!(
            letter.without_age(),
            Letter::to_far("numbers", "number", correlation, letter.len)
        );
        assert!(letter.len > 0 && letter.age.expect("it was in the ring") < PATIENCE);
    }
}

fn what_is_no_message_is_a_dead_letter_at_the_receiver(over: Over) {
    let pair = pair(over);
    let opened = pair.order(Order::OpenTyped {
        name: "numbers".into(),
    });
    assert_eq!(opened, Done::AsTold);
    let raw = pair.far.address("numbers").unwrap();
    raw.send_timeout(&[9, 9, 9], Some(5), PATIENCE).unwrap();
    let typed = pair.far.typed_address::<Number>("numbers").unwrap();
    typed.send(&Number(true, 4)).unwrap();
    let take = || {
        pair.order(Order::TakeTyped {
            name: "numbers".into(),
        })
    };
    assert_eq!(take(), Done::Numbers(vec![]));
    assert_eq!(take(), Done::Numbers(vec![4]));
    let letter = pair.far_letters(Reason::Undecodable, 1).remove(0);
    assert_eq!(
        letter.without_age(),
        Letter::from_near("numbers", "number", Some(5), 3)
    );
    assert!(letter.age.is_some());
}

tests::over_each_transport! {
    a_mailbox_that_is_closed_returns_what_it_did_not_take,
    what_a_killed_process_did_not_acknowledge_is_a_dead_letter_with_all_that_is_known_of_it,
    what_is_no_message_is_a_dead_letter_at_the_receiver,
}

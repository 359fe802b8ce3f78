//! Why messages are not delivered, and what is said of them. (Drops are in `policies`, late answers in `asking`.)

use std::time::Duration;

use tests::audit::eventually;
use transport::{Overflow, Reason};

use crate::Over;
use crate::far::{Done, Number, Order, pair};

pub(crate) fn a_mailbox_that_is_closed_returns_what_it_did_not_take(over: Over) {
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
        let letter = subscriber.recv_timeout(crate::far::PATIENCE).unwrap();
        assert_eq!(
            (letter.reason, letter.correlation, letter.len),
            (Reason::MailboxClosed, Some(number + 7), 8)
        );
        assert_eq!(
            (letter.node.as_deref(), letter.mailbox.as_str()),
            (Some("far"), "inbox")
        );
        let age = letter.age.expect("it waited in the mailbox");
        assert!(
            age >= Duration::from_millis(30) && age < Duration::from_secs(20),
            "{age:?}"
        );
    }
    assert_eq!(pair.far_letters(Reason::MailboxClosed), (2, Some("near".into())));
    eventually("the address is known to be closed", || {
        matches!(
            inbox.try_send(&[0; 8]),
            Err(transport::SendError::MailboxClosed { .. })
        )
    });
}

pub(crate) fn what_a_killed_process_did_not_acknowledge_is_a_dead_letter_with_all_that_is_known_of_it(
    over: Over,
) {
    let mut pair = pair(over);
    assert_eq!(
        pair.order(Order::OpenTyped {
            name: "numbers".into()
        }),
        Done::AsTold
    );
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
        assert_eq!(
            (letter.node.as_deref(), letter.protocol.as_deref()),
            (Some("far"), Some("number"))
        );
        assert_eq!(letter.correlation, Some(number as u64 + 1));
        assert!(letter.age.expect("it was in the ring") < Duration::from_secs(30));
        assert!(letter.payload.is_some() && !format!("{letter:?}").contains("payload"));
    }
}

pub(crate) fn what_is_no_message_is_a_dead_letter_at_the_receiver(over: Over) {
    let pair = pair(over);
    assert_eq!(
        pair.order(Order::OpenTyped {
            name: "numbers".into()
        }),
        Done::AsTold
    );
    pair.far.address("numbers").unwrap().send(&[9, 9, 9]).unwrap();
    let typed = pair.far.typed_address::<Number>("numbers").unwrap();
    typed.send(&Number(true, 4)).unwrap();
    let take = || {
        pair.order(Order::TakeTyped {
            name: "numbers".into(),
        })
    };
    assert_eq!(take(), Done::Numbers(vec![]));
    assert_eq!(take(), Done::Numbers(vec![4]));
    assert_eq!(pair.far_letters(Reason::Undecodable), (1, Some("near".into())));
}

//! What happens to a message for a mailbox that is full.

use std::time::Duration;

use transport::{Overflow, Reason, SendError};

use crate::far::{PATIENCE, Pair, pair};
use crate::letters::Letter;
use tests::over::Over;

fn filled(over: Over, overflow: Overflow) -> (Pair, transport::Address) {
    let pair = pair(over);
    let inbox = pair.open("inbox", 3, overflow);
    for number in 0..3u64 {
        inbox.try_send(&number.to_le_bytes()).unwrap();
    }
    (pair, inbox)
}

fn full() -> SendError {
    SendError::MailboxFull {
        mailbox: "inbox".into(),
    }
}

fn wait_makes_the_sender_wait_until_a_message_is_taken(over: Over) {
    let (pair, inbox) = filled(over, Overflow::Wait);
    assert_eq!(inbox.try_send(&3u64.to_le_bytes()), Err(full()));
    let patience = Duration::from_millis(30);
    assert_eq!(
        inbox.send_timeout(&3u64.to_le_bytes(), None, patience),
        Err(SendError::TimedOut(patience))
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| inbox.send(&3u64.to_le_bytes()));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        assert_eq!(pair.take("inbox", 4), [0, 1, 2, 3]);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    assert_eq!(pair.near.dead_letters().count(), 0);
}

fn fail_tells_the_sender_at_once(over: Over) {
    let (pair, inbox) = filled(over, Overflow::Fail);
    assert_eq!(inbox.send(&3u64.to_le_bytes()), Err(full()));
    assert_eq!(pair.take("inbox", 3), [0, 1, 2]);
    assert_eq!(pair.near.dead_letters().count(), 0);
}

fn drop_newest_drops_at_the_sender(over: Over) {
    let (pair, inbox) = filled(over, Overflow::DropNewest);
    inbox.try_send_with(&3u64.to_le_bytes(), Some(33)).unwrap();
    assert_eq!(pair.take("inbox", 3), [0, 1, 2]);
    assert_eq!(pair.near.dead_letters().count(), 1);
    let letters = pair.near_letters(Reason::DroppedNewest, 1);
    assert_eq!(
        letters[0].without_age(),
        Letter::to_far("inbox", "bytes", Some(33), 8)
    );
    assert_eq!(letters[0].age, Some(Duration::ZERO));
}

fn a_place_is_reserved_before_the_message_is_made(over: Over) {
    let (pair, inbox) = filled(over, Overflow::Wait);
    assert_eq!(inbox.try_reserve(8).map(drop), Err(full()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut permit = inbox.reserve(8).unwrap();
            permit.payload().copy_from_slice(&3u64.to_le_bytes());
            permit.send();
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waiting.is_finished());
        assert_eq!(pair.take("inbox", 4), [0, 1, 2, 3]);
        waiting.join().unwrap();
    });
    // What is dropped leaves the place to others.
    drop(inbox.reserve(8).unwrap());
    inbox.send(&4u64.to_le_bytes()).unwrap();
    assert_eq!(pair.take("inbox", 1), [4]);
}

fn drop_oldest_drops_at_the_receiver(over: Over) {
    let (pair, inbox) = filled(over, Overflow::DropOldest);
    for number in 3..6u64 {
        inbox.try_send_with(&number.to_le_bytes(), Some(number)).unwrap();
    }
    inbox.try_send(&6u64.to_le_bytes()).unwrap();
    let letters = pair.far_letters(Reason::DroppedOldest, 4);
    assert_eq!(pair.take("inbox", 3), [4, 5, 6]);
    for (letter, correlation) in letters.iter().zip([None, None, None, Some(3)]) {
        assert_eq!(
            letter.without_age(),
            Letter::from_near("inbox", "bytes", correlation, 8)
        );
        assert!(letter.age < Some(PATIENCE) && letter.age.is_some(), "{letter:?}");
    }
    assert_eq!(pair.near.dead_letters().count(), 0);
}

tests::over_each_transport! {
    wait_makes_the_sender_wait_until_a_message_is_taken,
    fail_tells_the_sender_at_once,
    drop_newest_drops_at_the_sender,
    drop_oldest_drops_at_the_receiver,
    a_place_is_reserved_before_the_message_is_made,
}

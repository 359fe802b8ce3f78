//! What happens to a message for a mailbox that is full.

use std::time::Duration;

use transport::{Overflow, Reason, SendError};

use crate::Over;
use crate::far::{Pair, pair};

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

pub(crate) fn wait_makes_the_sender_wait_until_a_message_is_taken(over: Over) {
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

pub(crate) fn fail_tells_the_sender_at_once(over: Over) {
    let (pair, inbox) = filled(over, Overflow::Fail);
    assert_eq!(inbox.send(&3u64.to_le_bytes()), Err(full()));
    assert_eq!(pair.take("inbox", 3), [0, 1, 2]);
    assert_eq!(pair.near.dead_letters().count(), 0);
}

pub(crate) fn drop_newest_drops_at_the_sender(over: Over) {
    let (pair, inbox) = filled(over, Overflow::DropNewest);
    inbox.try_send_with(&3u64.to_le_bytes(), Some(33)).unwrap();
    assert_eq!(pair.take("inbox", 3), [0, 1, 2]);
    let letters = pair.near.dead_letters();
    assert_eq!((letters.count(), letters.count_of(Reason::DroppedNewest)), (1, 1));
    let letter = letters.latest().remove(0);
    assert_eq!(
        (
            letter.node.as_deref(),
            letter.mailbox.as_str(),
            letter.correlation
        ),
        (Some("far"), "inbox", Some(33))
    );
    assert_eq!(
        (letter.from, letter.len, letter.age),
        (None, 8, Some(Duration::ZERO))
    );
}

pub(crate) fn drop_oldest_drops_at_the_receiver(over: Over) {
    let (pair, inbox) = filled(over, Overflow::DropOldest);
    for number in 3..5u64 {
        inbox.try_send(&number.to_le_bytes()).unwrap();
    }
    assert_eq!(pair.take("inbox", 3), [2, 3, 4]);
    assert_eq!(pair.far_letters(Reason::DroppedOldest), (2, Some("near".into())));
    assert_eq!(pair.near.dead_letters().count(), 0);
}

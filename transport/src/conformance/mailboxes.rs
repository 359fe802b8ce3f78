//! Mailboxes: names, limits, what happens when they are full or closed.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::{
    Harness, PATIENCE, Pair, builder, eventually, nothing_more, number, options, pair, send_numbered, take,
};
use crate::{Address, Mailbox, MailboxOptions, Node, Overflow, Reason, ResolveError, SendError};

pub fn an_unknown_mailbox_is_refused_by_name(harness: &dyn Harness) {
    let Pair { a: _a, b: _b, to_b } = pair(harness);
    let error = to_b.address("nobody").unwrap_err();
    assert_eq!(
        error,
        ResolveError::NoSuchMailbox {
            node: "b".into(),
            mailbox: "nobody".into()
        }
    );
    assert_eq!(to_b.address("").unwrap_err(), ResolveError::BadName { len: 0 });
}

pub fn a_message_over_the_limit_is_refused_with_the_limit(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b
        .mailbox(
            "inbox",
            MailboxOptions {
                max_message: 100,
                ..Default::default()
            },
        )
        .unwrap();
    let address = to_b.address("inbox").unwrap();
    assert_eq!(
        address.try_send(&[1; 101]),
        Err(SendError::TooLarge { len: 101, max: 100 })
    );
    address.try_send(&[2; 100]).unwrap();
    address.try_send(&[]).unwrap();
    assert_eq!(take(&mut inbox), [2; 100]);
    assert_eq!(take(&mut inbox), []);
}

pub fn a_full_mailbox_makes_its_sender_wait_until_a_message_is_taken(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send(b"1").unwrap();
    address.try_send(b"2").unwrap();
    assert_eq!(
        address.try_send(b"3"),
        Err(SendError::MailboxFull {
            mailbox: "inbox".into()
        })
    );
    let patience = Duration::from_millis(30);
    assert_eq!(
        address.send_timeout(b"3", None, patience),
        Err(SendError::TimedOut(patience))
    );
    let waiting = thread::spawn(move || address.send(b"3"));
    thread::sleep(Duration::from_millis(30));
    assert!(!waiting.is_finished(), "the sender did not wait");
    assert_eq!(take(&mut inbox), b"1");
    waiting.join().unwrap().unwrap();
    assert_eq!(take(&mut inbox), b"2");
    assert_eq!(take(&mut inbox), b"3");
}

pub fn a_full_mailbox_fails_its_sender_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(1, Overflow::Fail)).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.send(b"1").unwrap();
    assert_eq!(
        address.send(b"2"),
        Err(SendError::MailboxFull {
            mailbox: "inbox".into()
        })
    );
    assert_eq!(take(&mut inbox), b"1");
    nothing_more(&mut inbox);
    assert_eq!(a.dead_letters().count(), 0, "the sender was told: no dead letter");
}

pub fn a_full_mailbox_drops_the_newest_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let letters = a.dead_letters().subscribe(8);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::DropNewest)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for message in [b"1", b"2", b"3"] {
        address.send(message).unwrap();
    }
    assert_eq!(take(&mut inbox), b"1");
    assert_eq!(take(&mut inbox), b"2");
    nothing_more(&mut inbox);
    let letter = letters.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (letter.reason, letter.mailbox.as_str(), letter.len),
        (Reason::DroppedNewest, "inbox", 1)
    );
    assert_eq!(a.dead_letters().count_of(Reason::DroppedNewest), 1);
}

pub fn a_full_mailbox_drops_the_oldest_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::DropOldest)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for message in [b"1", b"2", b"3", b"4"] {
        address.send(message).unwrap();
    }
    eventually("two were dropped", || {
        b.dead_letters().count_of(Reason::DroppedOldest) == 2
    });
    assert_eq!(take(&mut inbox), b"3");
    assert_eq!(take(&mut inbox), b"4");
    nothing_more(&mut inbox);
}

pub fn what_is_sent_all_at_once_keeps_to_the_policy_of_a_full_mailbox(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let messages: [&[u8]; 5] = [b"1", b"2", b"3", b"4", b"5"];
    for (policy, sent, arrive) in [
        (Overflow::Wait, 3, &messages[..3]),
        (Overflow::Fail, 3, &messages[..3]),
        (Overflow::DropNewest, 5, &messages[..3]),
        (Overflow::DropOldest, 5, &messages[2..]),
    ] {
        let name = format!("{policy:?}");
        let mut inbox = b.mailbox(&name, options(3, policy)).unwrap();
        let address = to_b.address(&name).unwrap();
        assert_eq!(address.batch().try_send_all(&[]), Ok(0));
        assert_eq!(address.batch().try_send_all(&messages), Ok(sent), "{policy:?}");
        if sent < messages.len() {
            let full = address.batch().try_send_all(&messages[sent..]);
            assert!(matches!(full, Err(SendError::MailboxFull { .. })), "{full:?}");
        }
        match policy {
            Overflow::Wait | Overflow::Fail => {}
            Overflow::DropNewest => assert_eq!(a.dead_letters().count_of(Reason::DroppedNewest), 2),
            Overflow::DropOldest => eventually("two are dropped", || {
                b.dead_letters().count_of(Reason::DroppedOldest) == 2
            }),
        }
        for message in arrive {
            assert_eq!(take(&mut inbox), *message);
        }
        nothing_more(&mut inbox);
        drop(inbox);
        eventually("the address is told", || {
            matches!(
                address.batch().try_send_all(&messages),
                Err(SendError::MailboxClosed { .. })
            )
        });
    }
}

pub fn a_full_mailbox_does_not_hold_up_its_neighbours(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let _full = b.mailbox("full", options(4, Overflow::Wait)).unwrap();
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let full = to_b.address("full").unwrap();
    while full.try_send(&[0; 1000]).is_ok() {}
    let address = to_b.address("inbox").unwrap();
    let sender = thread::spawn(move || send_numbered(&address, 0..5_000, |_| 1_000));
    for index in 0..5_000 {
        assert_eq!(number(&take(&mut inbox)), index);
    }
    sender.join().unwrap();
}

pub fn a_permit_dropped_gives_its_room_back(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(1, Overflow::Wait)).unwrap();
    for address in [to_b.address("inbox").unwrap(), b.address("inbox").unwrap()] {
        permits_of(&address, &mut inbox);
    }
}

fn permits_of(address: &Address, inbox: &mut Mailbox) {
    for _ in 0..10 {
        drop(address.try_reserve(100).unwrap());
    }
    let mut permit = address.try_reserve(4).unwrap();
    permit.payload().copy_from_slice(b"kept");
    permit.send();
    assert!(address.try_reserve(4).is_err());
    assert_eq!(take(inbox), b"kept");
    // A sender that waits for the room is woken when the permit is dropped.
    let start = Instant::now();
    let permit = loop {
        match address.try_reserve(4) {
            Ok(permit) => break permit,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    let waiting = thread::spawn({
        let address = address.clone();
        move || address.send_timeout(b"kept", None, PATIENCE)
    });
    thread::sleep(Duration::from_millis(50));
    let dropped = Instant::now();
    drop(permit);
    waiting.join().unwrap().unwrap();
    assert!(
        dropped.elapsed() < PATIENCE / 2,
        "the waiting sender was not woken"
    );
    assert_eq!(take(inbox), b"kept");
    nothing_more(inbox);
}

pub fn a_permit_sent_into_a_mailbox_that_was_closed_is_a_dead_letter(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let inbox = b.mailbox("inbox", options(2, Overflow::Wait)).unwrap();
    let (there, here) = (to_b.address("inbox").unwrap(), b.address("inbox").unwrap());
    let (from_a, from_b) = (there.try_reserve(3).unwrap(), here.try_reserve(3).unwrap());
    drop(inbox);
    from_a.send();
    from_b.send();
    // The message of a is one at both: where it was sent, and where it arrived.
    eventually("each has its letter", || {
        let letters = |node: &Node| node.dead_letters().count_of(Reason::MailboxClosed);
        (letters(&a), letters(&b)) == (1, 2)
    });
    assert!(matches!(
        here.try_reserve(3),
        Err(SendError::MailboxClosed { .. })
    ));
}

pub fn a_closed_mailbox_returns_what_it_did_not_take(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let letters = a.dead_letters().subscribe(8);
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send_with(b"too late", Some(7)).unwrap();
    eventually("the message is there", || inbox.depth() == 1);
    drop(inbox);
    let letter = letters.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (letter.reason, letter.correlation, letter.len),
        (Reason::MailboxClosed, Some(7), 8)
    );
    let closed = SendError::MailboxClosed {
        mailbox: "inbox".into(),
    };
    eventually("the sender knows", || {
        address.try_send(b"later still") == Err(closed.clone())
    });
    assert!(matches!(
        to_b.address("inbox"),
        Err(ResolveError::NoSuchMailbox { .. })
    ));
    // The name can be opened anew, and is then another mailbox.
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    to_b.address("inbox").unwrap().send(b"in time").unwrap();
    assert_eq!(take(&mut inbox), b"in time");
}

pub fn the_handle_of_a_closed_mailbox_is_given_out_again(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    loop {
        let mut brief = b.mailbox("brief", options(2, Overflow::Wait)).unwrap();
        let address = to_b.address("brief").unwrap();
        let is_new = seen.insert(address.handle());
        address.try_send(b"1").unwrap();
        assert_eq!(take(&mut brief), b"1");
        if !is_new {
            return;
        }
        drop(brief);
        // What goes out before the end is known comes back, and keeps the handle until it has.
        eventually("the mailbox's end is known", || {
            matches!(address.try_send(b"2"), Err(SendError::MailboxClosed { .. }))
        });
        assert!(
            start.elapsed() < PATIENCE,
            "{} handles, none of them twice",
            seen.len()
        );
    }
}

pub fn a_mailbox_that_drops_its_oldest_keeps_nothing_of_sessions_that_are_over(harness: &dyn Harness) {
    let b = builder(harness, "b").listen(&harness.address()).start().unwrap();
    let inbox = b.mailbox("inbox", options(1, Overflow::DropOldest)).unwrap();
    let a = builder(harness, "a").start().unwrap();
    let peer = a.connect(&b.addresses()[0]).unwrap();
    let address = peer.address("inbox").unwrap();
    for _ in 0..3 {
        address.send(b"the newest").unwrap();
    }
    peer.close(PATIENCE);
    b.address("inbox").unwrap().send(b"newer still").unwrap();
    eventually("the session's place is free", || inbox.shared.ports_in_use() == 0);
}

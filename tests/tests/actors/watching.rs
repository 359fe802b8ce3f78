//! What a watcher sees, and in which order.

use std::time::Duration;

use transport::{Gone, Mailbox, MailboxOptions, Overflow, Watch};

use crate::far::{Order, PATIENCE, Pair, number, pair};
use tests::over::Over;

const COUNT: u64 = 3_000;
const CLOSED: u64 = u64::MAX;
const NODE_GONE: u64 = u64::MAX - 1;

fn notice(gone: &Gone) -> Vec<u8> {
    let number = match gone {
        Gone::MailboxClosed => CLOSED,
        Gone::SessionOver(_) => NODE_GONE,
    };
    number.to_le_bytes().to_vec()
}

/// The near inbox, and an order to send `COUNT` numbers there.
fn watched(pair: &Pair, close: Option<String>) -> (Mailbox, Order) {
    let inbox = pair.near.mailbox("inbox", MailboxOptions::default()).unwrap();
    let to = pair.near.address("inbox").unwrap().reference();
    let tell = Order::Tell {
        to,
        count: COUNT,
        close,
    };
    (inbox, tell)
}

fn take(inbox: &mut Mailbox) -> u64 {
    number(inbox.recv_timeout(PATIENCE).unwrap().expect("in time").payload)
}

fn nothing_more(inbox: &mut Mailbox) {
    assert!(inbox.recv_timeout(Duration::from_millis(300)).unwrap().is_none());
}

fn the_notice_of_a_closed_mailbox_comes_once_and_after_its_last_message(over: Over) {
    let pair = pair(over);
    let watched_address = pair.open("watched", 8, Overflow::Wait);
    let (mut inbox, tell) = watched(&pair, Some("watched".into()));
    let _watch: Watch = inbox.watch(&watched_address, notice);
    pair.orders.send(&tell).unwrap();
    // Slowly at first, so that the closing overtakes what is in the ring.
    for expected in 0..COUNT {
        assert_eq!(take(&mut inbox), expected);
        if expected < 5 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(take(&mut inbox), CLOSED);
    nothing_more(&mut inbox);
}

fn the_notice_of_a_killed_process_comes_once_and_after_its_last_message(over: Over) {
    let mut pair = pair(over);
    let watched_address = pair.open("watched", 8, Overflow::Wait);
    let (mut inbox, tell) = watched(&pair, None);
    let _both = [
        inbox.watch(&watched_address, notice),
        inbox.watch_node(&pair.far, notice),
    ];
    pair.orders.send(&tell).unwrap();
    for expected in 0..COUNT / 2 {
        assert_eq!(take(&mut inbox), expected);
    }
    pair.kill();
    // What was on its way still comes, in order, then both notices.
    let mut expected = COUNT / 2;
    let first = loop {
        match take(&mut inbox) {
            number if number == expected => expected += 1,
            notice => break notice,
        }
    };
    assert_eq!((first, take(&mut inbox)), (NODE_GONE, NODE_GONE));
    nothing_more(&mut inbox);
}

fn a_watch_of_what_is_gone_already_is_told_at_once_and_one_given_up_never(over: Over) {
    let pair = pair(over);
    let watched_address = pair.open("watched", 8, Overflow::Wait);
    let (mut inbox, _) = watched(&pair, None);
    let given_up = inbox.watch(&watched_address, notice);
    assert!(given_up.cancel());
    let _watch = inbox.watch(&watched_address, notice);
    pair.order(Order::Close {
        name: "watched".into(),
    });
    assert_eq!(take(&mut inbox), CLOSED);
    let _late = inbox.watch(&watched_address, notice);
    assert_eq!(take(&mut inbox), CLOSED);
    nothing_more(&mut inbox);
}

tests::over_each_transport! {
    the_notice_of_a_closed_mailbox_comes_once_and_after_its_last_message,
    the_notice_of_a_killed_process_comes_once_and_after_its_last_message,
    a_watch_of_what_is_gone_already_is_told_at_once_and_one_given_up_never,
}

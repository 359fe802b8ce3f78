//! Futures that are dropped before they are done: nothing of them stays, and nothing of others is lost.

#![allow(missing_docs)]

use std::task::{Context, Waker};
use std::time::Duration;

use super::driving::block_on;
use super::{Harness, Pair, nothing_more, number, numbered, options, pair, take};
use crate::Overflow;

/// Polls a future once, and drops it.
fn begin<F: Future>(future: F) -> bool {
    let future = std::pin::pin!(future);
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

pub fn a_send_that_is_given_up_sends_nothing_and_holds_no_room(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(1, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.send(b"first").unwrap();
    for _ in 0..20 {
        assert!(!begin(address.send_async(b"given up")), "there was room");
        assert!(!begin(address.reserve_async(8)), "there was room");
    }
    assert_eq!(take(&mut inbox), b"first");
    block_on(address.send_async(b"second")).unwrap();
    assert_eq!(take(&mut inbox), b"second");
    nothing_more(&mut inbox);
}

pub fn a_receive_that_is_given_up_takes_nothing(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(64, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for index in 0..200 {
        assert!(!begin(inbox.recv_async()), "a message too many");
        address.send(&numbered(2 * index, 16)).unwrap();
        address.send(&numbered(2 * index + 1, 16)).unwrap();
        std::thread::sleep(Duration::from_micros(index % 50));
        for expected in [2 * index, 2 * index + 1] {
            let message = block_on(inbox.recv_async()).unwrap();
            assert_eq!(number(message.payload), expected);
        }
    }
    nothing_more(&mut inbox);
}

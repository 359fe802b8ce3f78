//! Futures that are dropped before they are done: nothing of them stays, and nothing of others is lost.

#![allow(missing_docs)]

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::driving::block_on;
use super::{Harness, PATIENCE, Pair, nothing_more, number, numbered, options, pair, take};
use crate::{MailboxOptions, Overflow};

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

/// A task of some executor, as far as those know it who are to wake it.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// Polls a future once and drops it: nobody may go on holding the task.
fn is_forgotten<F: Future>(future: F) -> bool {
    let task = Arc::new(Task);
    {
        let waker = Waker::from(task.clone());
        let future = std::pin::pin!(future);
        assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    }
    Arc::strong_count(&task) == 1
}

pub fn a_name_that_nobody_waits_for_any_more_is_resolved_for_the_next(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(64, Overflow::Wait)).unwrap();
    assert!(is_forgotten(to_b.address_async("inbox")));
    assert!(is_forgotten(to_b.address_async("nobody")));
    block_on(to_b.address_async("inbox"))
        .unwrap()
        .send(b"here")
        .unwrap();
    assert_eq!(take(&mut inbox), b"here");
    super::eventually("no answer is kept that nobody comes for", || {
        to_b.0.resolving() == 0
    });
}

pub fn nobody_holds_a_task_that_has_given_up(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let options = MailboxOptions {
        max_message: 1 << 20,
        ..options(1, Overflow::Wait)
    };
    let mut inbox = b.mailbox("inbox", options).unwrap();
    let addresses = [to_b.address("inbox").unwrap(), b.address("inbox").unwrap()];
    addresses[0].send(b"in the way").unwrap();
    super::eventually("the mailbox is full", || inbox.depth() == 1);
    let long = vec![0; 1 << 20];
    for address in &addresses {
        assert!(is_forgotten(address.send_async(b"given up")));
        assert!(is_forgotten(address.send_async(&long)));
        assert!(is_forgotten(address.reserve_async(8)));
        assert!(is_forgotten(address.ask_async(b"given up", PATIENCE)));
    }
    assert!(is_forgotten(to_b.over()));
    assert_eq!(take(&mut inbox), b"in the way");
    nothing_more(&mut inbox);
}

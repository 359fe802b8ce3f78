//! Every way of driving a node: a thread of its own, the caller, a polling receiver, any executor.

#![allow(missing_docs)]

use std::thread;
use std::time::Instant;

use super::{Harness, PATIENCE, builder, number, numbered, options, send_numbered, take};
use crate::{Address, Drive, MailboxOptions, NodeBuilder, Overflow, Wait};

pub fn a_polling_receiver_is_lent_every_message(harness: &dyn Harness) {
    const COUNT: u64 = 20_000;
    let b = builder(harness, "b")
        .drive(Drive::Caller)
        .listen(&harness.address())
        .start()
        .unwrap();
    let mut inbox = b.mailbox("inbox", options(64, Overflow::Wait)).unwrap();
    let mut neighbour = b.mailbox("neighbour", MailboxOptions::default()).unwrap();
    let a = builder(harness, "a").start().unwrap();
    let address = b.addresses()[0].clone();
    let sender = thread::spawn(move || {
        let to_b = a.connect(&address).unwrap();
        to_b.address("neighbour")
            .unwrap()
            .send(b"for somebody else")
            .unwrap();
        send_numbered(&to_b.address("inbox").unwrap(), 0..COUNT, |index| {
            index as usize % 500
        });
        a
    });
    let start = Instant::now();
    let mut next = 0;
    while next < COUNT {
        inbox
            .poll(|message| {
                assert_eq!(number(message.payload), next);
                next += 1;
            })
            .unwrap();
        assert!(start.elapsed() < PATIENCE, "{next} of {COUNT} in time");
    }
    assert_eq!(take(&mut neighbour), b"for somebody else");
    sender.join().unwrap();
}

pub fn blocking_use_without_a_thread_of_the_nodes_own(harness: &dyn Harness) {
    for wait in [Wait::default(), Wait::Park] {
        let change = |builder: NodeBuilder| builder.drive(Drive::Caller).wait(wait);
        let b = change(builder(harness, "b").listen(&harness.address()))
            .start()
            .unwrap();
        let mut inbox = b.mailbox("ping", MailboxOptions::default()).unwrap();
        let a = change(builder(harness, "a")).start().unwrap();
        let address = b.addresses()[0].clone();
        let asker = thread::spawn(move || {
            let mut answers = a.mailbox("pong", MailboxOptions::default()).unwrap();
            let ping = a.connect(&address).unwrap().address("ping").unwrap();
            for index in 0..200 {
                ping.send(&numbered(index, 64)).unwrap();
                assert_eq!(number(&take(&mut answers)), index);
            }
        });
        let mut pong: Option<Address> = None;
        for index in 0..200 {
            let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
            let (payload, peer) = (message.payload.to_vec(), message.peer().unwrap());
            assert_eq!(number(&payload), index);
            pong.get_or_insert_with(|| peer.address("pong").unwrap())
                .send(&payload)
                .unwrap();
        }
        // The last answer leaves with its send; nobody needs to drive b any more.
        asker.join().unwrap();
    }
}

/// Runs a future on the calling thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = crate::wait::thread_waker();
    let start = Instant::now();
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut std::task::Context::from_waker(&waker))
        {
            return output;
        }
        assert!(start.elapsed() < PATIENCE, "the future is not ready in time");
        thread::park_timeout(PATIENCE);
    }
}

pub fn futures_send_and_receive_on_any_executor(harness: &dyn Harness) {
    let b = builder(harness, "b")
        .wait(Wait::Park)
        .listen(&harness.address())
        .start()
        .unwrap();
    let a = builder(harness, "a").wait(Wait::Park).start().unwrap();
    let mut inbox = b.mailbox("inbox", options(4, Overflow::Wait)).unwrap();
    let url = b.addresses()[0].clone();
    let receiver = thread::spawn(move || {
        block_on(async {
            for index in 0..500 {
                assert_eq!(number(inbox.recv_async().await.unwrap().payload), index);
            }
        });
    });
    block_on(async {
        let peer = a.connect_async(&url).await.unwrap();
        let address = peer.address_async("inbox").await.unwrap();
        for index in 0..500u64 {
            if index % 2 == 0 {
                address.send_async(&numbered(index, 16)).await.unwrap();
            } else {
                let mut permit = address.reserve_async(8).await.unwrap();
                permit.payload().copy_from_slice(&index.to_le_bytes());
                permit.send();
            }
        }
    });
    receiver.join().unwrap();
}

//! Messages arrive whole, once and in order, whatever their sizes and whoever sends them.

#![allow(missing_docs)]

use std::thread;

use super::{
    Harness, PATIENCE, Pair, eventually, nothing_more, number, numbered, options, pair, pair_with,
    send_numbered, take,
};
use crate::{LaneSizes, MailboxOptions, Overflow, TraceContext};

pub fn messages_of_every_size_arrive_in_order(harness: &dyn Harness) {
    const COUNT: u64 = 5_000;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let len = |index: u64| (index * index % 9_001) as usize;
    let sender = thread::spawn(move || send_numbered(&address, 0..COUNT, len));
    for index in 0..COUNT {
        assert_eq!(take(&mut inbox), numbered(index, len(index)));
    }
    nothing_more(&mut inbox);
    sender.join().unwrap();
}

pub fn messages_sent_all_at_once_arrive_in_order(harness: &dyn Harness) {
    const COUNT: u64 = 6_000;
    const TOGETHER: u64 = 40;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(64, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    // Among them some for the large lane, so that what comes behind them must not go past.
    let len = |index: u64| match index % 199 {
        0 => 20_000,
        other => (other * other % 301) as usize,
    };
    let sender = thread::spawn(move || {
        let mut batch = address.batch();
        for first in (0..COUNT).step_by(TOGETHER as usize) {
            let messages: Vec<Vec<u8>> = (first..first + TOGETHER)
                .map(|index| numbered(index, len(index)))
                .collect();
            let mut left: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            while !left.is_empty() {
                match batch.try_send_all(&left) {
                    Ok(sent) => drop(left.drain(..sent)),
                    Err(full) if full.is_full() => {
                        batch.send(left[0]).unwrap();
                        left.remove(0);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    for index in 0..COUNT {
        assert_eq!(take(&mut inbox), numbered(index, len(index)));
    }
    nothing_more(&mut inbox);
    sender.join().unwrap();
}

pub fn both_directions_at_once_with_small_rings(harness: &dyn Harness) {
    const COUNT: u64 = 20_000;
    let sizes = LaneSizes {
        control: 4096,
        ordinary: 4096,
        large: 4096,
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.rings(sizes));
    let mut in_a = a.mailbox("inbox", options(16, Overflow::Wait)).unwrap();
    let mut in_b = b.mailbox("inbox", options(16, Overflow::Wait)).unwrap();
    eventually("b knows a", || b.peers().len() == 1);
    let to_a = b.peers().remove(0);
    let (to_a, to_b) = (to_a.address("inbox").unwrap(), to_b.address("inbox").unwrap());
    thread::scope(|scope| {
        for (address, inbox) in [(to_a, &mut in_a), (to_b, &mut in_b)] {
            scope.spawn(move || send_numbered(&address, 0..COUNT, |index| index as usize % 700));
            scope.spawn(move || {
                for index in 0..COUNT {
                    assert_eq!(number(&take(inbox)), index);
                }
            });
        }
    });
}

pub fn several_threads_each_keep_their_order(harness: &dyn Harness) {
    const EACH: u64 = 5_000;
    const THREADS: u64 = 4;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let address = address.clone();
            scope.spawn(move || send_numbered(&address, thread * EACH..(thread + 1) * EACH, |_| 24));
        }
        let mut next: Vec<u64> = (0..THREADS).map(|thread| thread * EACH).collect();
        for _ in 0..THREADS * EACH {
            let index = number(&take(&mut inbox));
            let expected = &mut next[(index / EACH) as usize];
            assert_eq!(index, *expected);
            *expected += 1;
        }
    });
    nothing_more(&mut inbox);
}

pub fn correlation_ids_travel_with_their_messages(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send_with(b"question", Some(0xfeed)).unwrap();
    address.try_send(b"remark").unwrap();
    let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
    assert_eq!(
        (message.payload, message.correlation),
        (&b"question"[..], Some(0xfeed))
    );
    assert_eq!(message.peer().expect("from a peer").node(), "a");
    let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
    assert_eq!((message.payload, message.correlation), (&b"remark"[..], None));
}

pub fn trace_contexts_travel_with_their_messages(harness: &dyn Harness) {
    const LARGE: usize = 200_000;
    let Pair { a: _a, b, to_b } = pair(harness);
    let context = |span: u8| TraceContext::new([7; 16], [span; 8], TraceContext::SAMPLED).unwrap();
    for overflow in [Overflow::Wait, Overflow::DropOldest] {
        let name = format!("{overflow:?}");
        let roomy = MailboxOptions {
            max_message: LARGE as u32,
            ..options(1024, overflow)
        };
        let mut inbox = b.mailbox(&name, roomy).unwrap();
        let address = to_b.address(&name).unwrap();
        // On the ordinary lane, on the large one in chunks, behind that, and from the receiver's own node.
        let here = b.address(&name).unwrap();
        let sent = [
            (&address, 8, Some(context(1)), Some(5)),
            (&address, 8, None, Some(6)),
            (&address, 8, Some(context(2)), None),
            (&address, LARGE, Some(context(3)), Some(7)),
            (&address, 8, Some(context(4)), None),
            (&address, LARGE, None, None),
            (&address, 8, None, None),
            (&here, 8, Some(context(5)), Some(8)),
            (&here, 8, None, None),
        ];
        for (to, len, trace, correlation) in sent {
            let payload = vec![9; len];
            to.traced(trace)
                .send_timeout(&payload, correlation, PATIENCE)
                .unwrap();
            let message = inbox.recv_timeout(PATIENCE).unwrap().expect("a message in time");
            assert_eq!(
                (message.payload.len(), message.trace.copied(), message.correlation),
                (len, trace, correlation)
            );
        }
    }
}

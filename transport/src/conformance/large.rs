//! Cases of messages in chunks: the large lane.

use std::thread;
use std::time::{Duration, Instant};

use super::cutting::{Pace, all_arrive_under_cuts, pair_to_cut};
use super::driving::block_on;
use super::{
    Harness, PATIENCE, Pair, builder, drive_until_told, eventually, nothing_more, number, numbered, pair,
    pair_with, take,
};
use crate::drive::Sleep;
use crate::lane::Lane;
use crate::{Address, Drive, LaneSizes, Mailbox, MailboxOptions, Node, Overflow, Reason, SendError, Timing};

pub(super) fn large_mailbox(node: &Node, name: &str, capacity: u32, overflow: Overflow) -> Mailbox {
    let options = MailboxOptions {
        capacity,
        overflow,
        max_message: 64 << 20,
    };
    node.mailbox(name, options).expect("a mailbox for large messages")
}

/// A message whose every byte tells where it belongs.
pub(super) fn pattern(number: u64, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|index| (index as u64).wrapping_mul(0x9e37_79b9).wrapping_add(number) as u8)
        .collect();
    if let Some(head) = bytes.first_chunk_mut::<8>() {
        *head = number.to_le_bytes();
    }
    bytes
}

pub(super) fn assert_is_pattern(message: &[u8], number: u64, len: usize) {
    assert_eq!(message.len(), len, "length of message {number}");
    assert!(message == pattern(number, len), "bytes of message {number}");
}

const SMALL_RINGS: LaneSizes = LaneSizes {
    control: 4096,
    ordinary: 4096,
    large: 4096,
};

#[allow(missing_docs)]
pub fn large_messages_arrive_whole_and_between_small_ones_in_order(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = large_mailbox(&b, "inbox", 16, Overflow::Wait);
    let address = to_b.address("inbox").unwrap();
    // Around the limits of lanes and chunks, each between small ones.
    let chunk = 64 << 10;
    let lens: Vec<usize> = [
        16 << 10,
        (16 << 10) + 1,
        chunk - 1,
        chunk,
        chunk + 1,
        3 * chunk,
        1_000_000,
    ]
    .into_iter()
    .flat_map(|len| [len, 10, 0, 100])
    .chain([5 << 20, 8])
    .collect();
    let sender = thread::spawn({
        let lens = lens.clone();
        move || {
            for round in 0..3 {
                for (index, len) in lens.iter().enumerate() {
                    let number = (round * lens.len() + index) as u64;
                    address
                        .send_timeout(&pattern(number, *len), Some(number), PATIENCE)
                        .expect("sent");
                }
            }
        }
    });
    for number in 0..3 * lens.len() {
        let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
        assert_eq!(message.correlation, Some(number as u64));
        assert_is_pattern(message.payload, number as u64, lens[number % lens.len()]);
    }
    nothing_more(&mut inbox);
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn a_message_larger_than_every_ring_passes_through_small_rings(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair_with(harness, |builder| builder.rings(SMALL_RINGS));
    let mut inbox = large_mailbox(&b, "inbox", 4, Overflow::Wait);
    let address = to_b.address("inbox").unwrap();
    let sender = thread::spawn(move || {
        for number in 0..6 {
            let message = pattern(number, 100_000);
            if number % 2 == 0 {
                address.send(&message).unwrap();
            } else {
                block_on(address.send_async(&message)).unwrap();
            }
            address.send(&pattern(number, 100)).unwrap();
        }
    });
    for number in 0..6 {
        assert_is_pattern(&take(&mut inbox), number, 100_000);
        assert_is_pattern(&take(&mut inbox), number, 100);
    }
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn large_messages_for_several_mailboxes_mix(harness: &dyn Harness) {
    const MAILBOXES: u64 = 4;
    const EACH: u64 = 4;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inboxes: Vec<Mailbox> = (0..MAILBOXES)
        .map(|index| large_mailbox(&b, &format!("inbox {index}"), 16, Overflow::Wait))
        .collect();
    thread::scope(|scope| {
        for index in 0..MAILBOXES {
            let address = to_b.address(&format!("inbox {index}")).unwrap();
            // Two senders for each mailbox, which take turns.
            for half in 0..2 {
                let address = address.clone();
                scope.spawn(move || {
                    for number in 0..EACH / 2 {
                        let number = 100 * index + 10 * half + number;
                        address
                            .send_timeout(&pattern(number, 3_000_000), None, PATIENCE)
                            .unwrap();
                    }
                });
            }
        }
        for (index, inbox) in inboxes.iter_mut().enumerate() {
            let mut next = [0, 10].map(|first| 100 * index as u64 + first);
            for _ in 0..EACH {
                let message = take(inbox);
                let half = usize::from(number(&message) % 100 >= 10);
                assert_is_pattern(&message, next[half], 3_000_000);
                next[half] += 1;
            }
        }
    });
}

#[allow(missing_docs)]
pub fn a_polling_receiver_is_lent_large_messages(harness: &dyn Harness) {
    const COUNT: u64 = 24;
    let b = builder(harness, "b")
        .drive(Drive::Caller)
        .listen(&harness.address())
        .start()
        .unwrap();
    let mut inbox = large_mailbox(&b, "inbox", 4, Overflow::Wait);
    let a = builder(harness, "a").start().unwrap();
    let address = b.addresses()[0].clone();
    let len = |number: u64| [20_000, 64 << 10, 1_000_000, 100][number as usize % 4];
    let sender = thread::spawn(move || {
        let to_b = a.connect(&address).unwrap().address("inbox").unwrap();
        for number in 0..COUNT {
            to_b.send(&pattern(number, len(number))).unwrap();
        }
        a
    });
    let start = Instant::now();
    let mut next = 0;
    while next < COUNT {
        inbox
            .poll(|message| {
                assert_is_pattern(message.payload, next, len(next));
                next += 1;
            })
            .unwrap();
        assert!(start.elapsed() < PATIENCE, "{next} of {COUNT} in time");
    }
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn a_large_message_goes_at_once_as_a_whole_or_not_at_all(harness: &dyn Harness) {
    let sizes = LaneSizes {
        large: 64 << 10,
        ..LaneSizes::default()
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.rings(sizes));
    let mut inbox = large_mailbox(&b, "inbox", 1_000, Overflow::Wait);
    let address = to_b.address("inbox").unwrap();
    let max = match address.try_send(&pattern(0, 1 << 20)) {
        Err(SendError::TooLongAtOnce { len, max }) if len == 1 << 20 => max,
        other => panic!("{other:?}"),
    };
    assert!((16 << 10..32 << 10).contains(&max), "half of the ring: {max}");
    let mut sent = 0;
    let start = Instant::now();
    while sent < 200 {
        match address.try_send(&pattern(sent, max)) {
            Ok(()) => sent += 1,
            Err(SendError::RingFull) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < PATIENCE, "{sent} sent in time");
    }
    for number in 0..sent {
        assert_is_pattern(&take(&mut inbox), number, max);
    }
    nothing_more(&mut inbox);
    // A reservation is for one chunk.
    let Err(SendError::TooLongAtOnce { max, .. }) = address.try_reserve(1 << 20) else {
        panic!("a megabyte was reserved in a ring of 64 KiB");
    };
    let mut permit = address.reserve(max).unwrap();
    permit.payload().copy_from_slice(&pattern(7, max));
    permit.send();
    assert_is_pattern(&take(&mut inbox), 7, max);
    assert_eq!(a.dead_letters().count(), 0);
}

#[allow(missing_docs)]
pub fn a_large_message_given_up_half_way_is_forgotten_and_the_next_arrives(harness: &dyn Harness) {
    // Without a driver the receiver makes no room, so each message gets stuck half-way.
    let b = builder(harness, "b")
        .drive(Drive::Caller)
        .rings(SMALL_RINGS)
        .listen(&harness.address())
        .start()
        .unwrap();
    let mut inbox = large_mailbox(&b, "inbox", 2, Overflow::Wait);
    let a = builder(harness, "a").rings(SMALL_RINGS).start().unwrap();
    let url = b.addresses()[0].clone();
    let (resolved, resolution) = std::sync::mpsc::channel();
    let (rests, at_rest) = std::sync::mpsc::channel();
    let (given_up, all_given_up) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        let address = a.connect(&url).unwrap().address("inbox").unwrap();
        resolved.send(()).unwrap();
        at_rest.recv().unwrap();
        // More of them than the mailbox has room for: what is given up uses up nothing.
        for number in 0..5 {
            let patience = Duration::from_millis(100);
            assert_eq!(
                address.send_timeout(&pattern(number, 50_000), None, patience),
                Err(SendError::TimedOut(patience))
            );
        }
        given_up.send(()).unwrap();
        address
            .send_timeout(&pattern(77, 50_000), None, PATIENCE)
            .expect("sent once there is room");
        (a, address)
    });
    drive_until_told(&b, &resolution);
    rests.send(()).unwrap();
    all_given_up.recv_timeout(PATIENCE).expect("all time out");
    assert_is_pattern(&take(&mut inbox), 77, 50_000);
    nothing_more(&mut inbox);
    let (a, address) = sender.join().unwrap();
    // The same for a future that is dropped.
    {
        let message = pattern(1, 50_000);
        let mut future = Box::pin(address.send_async(&message));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    let sender = thread::spawn(move || address.send_timeout(&pattern(78, 50_000), None, PATIENCE));
    assert_is_pattern(&take(&mut inbox), 78, 50_000);
    sender.join().unwrap().unwrap();
    assert_eq!(a.dead_letters().count() + b.dead_letters().count(), 0);
}

#[allow(missing_docs)]
pub fn full_mailboxes_treat_large_messages_as_small_ones(harness: &dyn Harness) {
    const LEN: usize = 200_000;
    let Pair { a, b, to_b } = pair(harness);
    for overflow in [Overflow::Wait, Overflow::Fail, Overflow::DropNewest] {
        let mailbox = format!("{overflow:?}");
        let mut inbox = large_mailbox(&b, &mailbox, 2, overflow);
        let address = to_b.address(&mailbox).unwrap();
        address.send(&pattern(1, LEN)).unwrap();
        address.send(&pattern(2, LEN)).unwrap();
        let third = address.try_send(&pattern(3, LEN));
        match overflow {
            Overflow::DropNewest => third.unwrap(),
            _ => assert_eq!(third, Err(SendError::MailboxFull { mailbox })),
        }
        let waiting = (overflow == Overflow::Wait).then(|| {
            let address = address.clone();
            thread::spawn(move || address.send_timeout(&pattern(3, LEN), None, PATIENCE))
        });
        assert_is_pattern(&take(&mut inbox), 1, LEN);
        assert_is_pattern(&take(&mut inbox), 2, LEN);
        if let Some(waiting) = waiting {
            assert_is_pattern(&take(&mut inbox), 3, LEN);
            waiting.join().unwrap().unwrap();
        }
        nothing_more(&mut inbox);
    }
    let letters = a.dead_letters();
    assert_eq!((letters.count_of(Reason::DroppedNewest), letters.count()), (1, 1));
    assert_eq!(letters.latest()[0].len, LEN);

    let mut inbox = large_mailbox(&b, "oldest", 2, Overflow::DropOldest);
    let address = to_b.address("oldest").unwrap();
    for number in 0..6 {
        address
            .send(&pattern(number, if number % 2 == 0 { LEN } else { 9 }))
            .unwrap();
    }
    eventually("four were dropped", || {
        b.dead_letters().count_of(Reason::DroppedOldest) == 4
    });
    assert_is_pattern(&take(&mut inbox), 4, LEN);
    assert_is_pattern(&take(&mut inbox), 5, 9);
    nothing_more(&mut inbox);
}

#[allow(missing_docs)]
pub fn a_closed_mailbox_returns_the_large_messages_it_did_not_take(harness: &dyn Harness) {
    const LEN: usize = 300_000;
    let Pair { a, b, to_b } = pair(harness);
    let letters = a.dead_letters().subscribe(8);
    let inbox = large_mailbox(&b, "inbox", 8, Overflow::Wait);
    let address = to_b.address("inbox").unwrap();
    address.send_timeout(&pattern(1, LEN), Some(7), PATIENCE).unwrap();
    eventually("the message is there", || inbox.depth() == 1);
    drop(inbox);
    let letter = letters.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (letter.reason, letter.correlation, letter.len),
        (Reason::MailboxClosed, Some(7), LEN)
    );
    eventually("the sender knows", || {
        matches!(
            address.send(&pattern(2, LEN)),
            Err(SendError::MailboxClosed { .. })
        )
    });
}

#[allow(missing_docs)]
pub fn a_peer_that_is_gone_makes_one_dead_letter_of_each_large_message(harness: &dyn Harness) {
    const LEN: usize = 300_000;
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_secs(1),
        resume_window: Duration::from_secs(1),
        ..Timing::default()
    };
    // Nobody drives b, so nothing is consumed.
    let b = builder(harness, "b")
        .drive(Drive::Caller)
        .timing(timing)
        .listen(&harness.address())
        .start()
        .unwrap();
    let _inbox = large_mailbox(&b, "inbox", 100, Overflow::Wait);
    let a = builder(harness, "a").timing(timing).start().unwrap();
    let url = b.addresses()[0].clone();
    let (resolved, resolution) = std::sync::mpsc::channel();
    let (rests, at_rest) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        let address = a.connect(&url).unwrap().address("inbox").unwrap();
        resolved.send(()).unwrap();
        at_rest.recv().unwrap();
        let mut sent = 0;
        loop {
            match address.send_timeout(&pattern(sent, LEN), Some(sent), PATIENCE) {
                Ok(()) => sent += 1,
                Err(SendError::SessionOver(_)) => return (a, sent),
                Err(error) => panic!("{error}"),
            }
        }
    });
    drive_until_told(&b, &resolution);
    rests.send(()).unwrap();
    let (a, sent) = sender.join().unwrap();
    assert!(sent > 3, "the ring took only {sent}");
    // The sender hears of the end before the letters are written.
    eventually("each message is a dead letter", || {
        a.dead_letters().count() >= sent
    });
    assert_eq!(a.dead_letters().count_of(Reason::Unacknowledged), sent);
    assert_eq!(a.dead_letters().count(), sent);
    for (number, letter) in a.dead_letters().latest().iter().enumerate() {
        assert_eq!((letter.correlation, letter.len), (Some(number as u64), LEN));
        let payload = letter.payload.as_deref().expect("nothing of it was consumed");
        assert_is_pattern(payload, number as u64, LEN);
    }
}

#[allow(missing_docs)]
pub fn large_messages_survive_cuts_of_the_link(harness: &dyn Harness) {
    let lens = [900_000, 100, 70_000, 40_000];
    long_messages_arrive_under_cuts(harness, 150, lens, |address, number, len| {
        address.send(&pattern(number, len)).unwrap();
    });
}

/// `count` messages, of these lengths in turn, each given to `send`, arrive while links are cut.
pub(super) fn long_messages_arrive_under_cuts(
    harness: &dyn Harness,
    count: u64,
    lens: [usize; 4],
    send: impl Fn(&Address, u64, usize) + Send + 'static,
) {
    if !harness.resumes() {
        return;
    }
    let pair = pair_to_cut(harness);
    let inbox = large_mailbox(&pair.b, "inbox", 8, Overflow::Wait);
    let address = pair.to_b.address("inbox").unwrap();
    let len = move |number: u64| lens[number as usize % lens.len()];
    let send_all = move || (0..count).for_each(|number| send(&address, number, len(number)));
    let pace = Pace {
        // Long enough for a slow device to carry a few chunks before the next cut.
        cut_after: Duration::from_millis(60),
        every: 10,
        pause: Duration::from_millis(30),
    };
    all_arrive_under_cuts(&pair, inbox, count, pace, send_all, |message, number| {
        assert_is_pattern(message, number, len(number));
    });
}

#[allow(missing_docs)]
pub fn small_messages_pass_a_large_one(harness: &dyn Harness) {
    const LEN: usize = 32 << 20;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut large = large_mailbox(&b, "large", 2, Overflow::Wait);
    let mut small = b.mailbox("small", MailboxOptions::default()).unwrap();
    let (to_large, to_small) = (to_b.address("large").unwrap(), to_b.address("small").unwrap());
    let from_a = b.peers().remove(0);
    let message = pattern(0, LEN);
    let sender = thread::spawn(move || to_large.send(&message).unwrap());
    let receiver = thread::spawn(move || take(&mut large));
    eventually("the large one is on its way", || {
        let lanes = &from_a.0.receive_side().lanes;
        lanes.rings[Lane::Large.index()].consumed() > 0
    });
    let mut passed = 0;
    for number in 0.. {
        to_small.send(&numbered(number, 64)).unwrap();
        assert_eq!(super::number(&take(&mut small)), number);
        if receiver.is_finished() {
            break;
        }
        passed += 1;
    }
    sender.join().unwrap();
    assert_is_pattern(&receiver.join().unwrap(), 0, LEN);
    assert!(passed >= 5, "only {passed} small messages passed a large one");
}

#[allow(missing_docs)]
pub fn a_large_message_that_has_to_wait_for_a_small_one_keeps_nobody_awake(harness: &dyn Harness) {
    const LEN: usize = 1 << 20;
    let Pair { a: _a, b, to_b } = pair(harness);
    let options = MailboxOptions {
        max_message: LEN as u32,
        ..MailboxOptions::default()
    };
    let mut inbox = b.mailbox("inbox", options).unwrap();
    let address = to_b.address("inbox").unwrap();
    let to_a = b.peers().remove(0);
    let permit = address.try_reserve(8).unwrap();
    address.send(&vec![1; LEN]).unwrap();
    eventually("all but its last chunk is taken", || {
        let receive = to_a.0.receive_side();
        let large = &receive.lanes.rings[Lane::Large.index()];
        large.consumed() >= LEN as u64 && matches!(large.peek(), Ok(Some(_)))
    });
    eventually("the receiver may sleep", || {
        matches!(to_a.0.prepare_to_sleep(), Sleep::Sound | Sleep::Light)
    });
    permit.send();
    assert_eq!(take(&mut inbox).len(), 8);
    assert_eq!(take(&mut inbox).len(), LEN);
}

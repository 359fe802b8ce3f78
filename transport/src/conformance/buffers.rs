//! Cases of messages that are sent from buffers: lent to the link where it gathers, copied where it does not.

use std::thread;

use super::driving::block_on;
use super::large::{assert_is_pattern, large_mailbox, long_messages_arrive_under_cuts, pattern};
use super::{Harness, PATIENCE, Pair, nothing_more, pair, take};
use crate::node::NodeInner;
use crate::{Buffer, Overflow, SendError};

fn filled(node: &NodeInner, number: u64, len: usize) -> Buffer {
    let mut buffer = node.buffer(len).expect("a buffer");
    buffer.copy_from_slice(&pattern(number, len));
    buffer
}

#[allow(missing_docs)]
pub fn buffers_arrive_as_they_were_sent_however_soon_they_are_written_again(harness: &dyn Harness) {
    const ROUNDS: u64 = 4;
    let Pair { a, b, to_b } = pair(harness);
    let mut inbox = large_mailbox(&b, "inbox", 16, Overflow::Wait);
    let address = to_b.address("inbox").unwrap();
    // On either lane, in one chunk and in several; between slices.
    let lens = [
        0,
        9,
        16 << 10,
        (16 << 10) + 1,
        65_508,
        64 << 10,
        65_537,
        200_000,
        400_000,
    ];
    let sender = thread::spawn(move || {
        for number in 0..ROUNDS * lens.len() as u64 {
            let len = lens[number as usize % lens.len()];
            match number % 4 {
                0 => address.send(&pattern(number, len)).unwrap(),
                1 => address.send_buffer(filled(&a.inner, number, len)).unwrap(),
                2 => block_on(address.send_buffer_async(filled(&a.inner, number, len))).unwrap(),
                _ => address
                    .send_buffer_timeout(filled(&a.inner, number, len), Some(number), PATIENCE)
                    .unwrap(),
            }
        }
        (a, address)
    });
    for number in 0..ROUNDS * lens.len() as u64 {
        let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
        assert_eq!(message.correlation, (number % 4 == 3).then_some(number));
        assert_is_pattern(message.payload, number, lens[number as usize % lens.len()]);
    }
    nothing_more(&mut inbox);
    let (a, _address) = sender.join().unwrap();
    assert_eq!(a.dead_letters().count(), 0);
}

#[allow(missing_docs)]
pub fn buffers_survive_cuts_of_the_link(harness: &dyn Harness) {
    let lens = [300_000, 100, 70_000, 40_000];
    long_messages_arrive_under_cuts(harness, 60, lens, |address, number, len| {
        address
            .send_buffer(filled(address.driver(), number, len))
            .unwrap();
    });
}

#[allow(missing_docs)]
pub fn a_buffer_that_is_not_sent_comes_back(harness: &dyn Harness) {
    const LEN: usize = 100_000;
    let Pair { a, b, to_b } = pair(harness);
    let mut inbox = large_mailbox(&b, "inbox", 2, Overflow::Fail);
    let address = to_b.address("inbox").unwrap();
    for number in 0..2 {
        address.send_buffer(filled(&a.inner, number, LEN)).unwrap();
    }
    let unsent = address.try_send_buffer(filled(&a.inner, 7, LEN)).unwrap_err();
    assert!(matches!(unsent.why, SendError::MailboxFull { .. }), "{unsent:?}");
    let mut buffer = unsent.buffer.expect("nothing of it was committed");
    assert_is_pattern(&buffer, 7, LEN);
    buffer[0] = 0;
    drop(buffer);
    for number in 0..2 {
        assert_is_pattern(&take(&mut inbox), number, LEN);
    }
    nothing_more(&mut inbox);
    assert_eq!(a.dead_letters().count(), 0);
}

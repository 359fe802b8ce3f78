//! A ring that both ends map.

use super::{CAPACITY, send, take};
use crate::frame::{Header, Integrity, Kind, size};
use crate::memory::RingMemory;
use crate::ring::*;

/// Both ends of a ring that both map, and the cell.
fn shared() -> (SendRing, ReceiveRing, RingMemory) {
    let memory = RingMemory::anonymous(CAPACITY).unwrap();
    let cell = RingMemory::anonymous(4096).unwrap();
    let mut receiver = ReceiveRing::new(memory.clone(), Integrity::None, Arrival::Published);
    receiver.tell_in(cell.clone());
    (SendRing::shared(memory, cell.clone()), receiver, cell)
}

#[test]
fn a_frame_that_the_peer_consumed_and_did_not_acknowledge_is_no_dead_letter() {
    let (sender, mut receiver, _) = shared();
    // Bodies that look like headers of every kind.
    let body = [0x10, 0, 0, 0x20, 0x30, 0, 0, 0x40].repeat(20);
    for _ in 0..3 {
        send(&sender, &body);
    }
    let shown = |sender: &SendRing| {
        let mut positions = Vec::new();
        sender.unacknowledged(0, |position, _, shown| {
            assert_eq!(shown, body);
            positions.push(position);
        });
        positions
    };
    let frame = size(body.len());
    assert_eq!(shown(&sender), [0, frame as u64, 2 * frame as u64]);
    assert_eq!(take(&mut receiver).as_deref(), Some(&body[..]));
    assert_eq!(shown(&sender), [frame as u64, 2 * frame as u64]);
    // What is claimed and not committed ends the walk, which goes on there.
    let open = sender.claim(8).unwrap();
    assert_eq!(sender.unacknowledged(0, |_, _, _| ()), open.position());
    open.commit(Kind::Padding, 0, 0, 0);
    assert_eq!(sender.unacknowledged(0, |_, _, _| ()), sender.claimed());
}

#[test]
fn a_receiver_that_writes_nothing_into_a_shared_ring_sees_no_frame_of_the_last_lap() {
    let (sender, mut receiver, cell) = shared();
    // Bodies that look like frames wherever one may begin.
    let body: Vec<u8> = Header {
        length: 4,
        kind: Kind::Message,
        flags: 0,
        extension: 0,
        mailbox: 7,
    }
    .first_word()
    .to_le_bytes()
    .repeat(sender.max_body() / 8);
    let (mut sent, mut taken) = (0usize, 0usize);
    for round in 0..4_000usize {
        // As many as fit, all of them consumed: the ring is as full of the last lap as can be.
        loop {
            let len = (sent * 40 + round) % body.len();
            let Ok(mut claim) = sender.claim(len) else { break };
            assert!(claim.body().iter().all(|byte| *byte == 0));
            claim.body().copy_from_slice(&body[..len]);
            claim.commit(Kind::Message, 0, 0, 7);
            sent += 1;
        }
        while take(&mut receiver).is_some() {
            taken += 1;
        }
        assert_eq!(taken, sent);
        assert!(receiver.is_empty() && receiver.consumed() == sender.claimed());
        cell.word(ACKNOWLEDGED)
            .store(receiver.consumed(), std::sync::atomic::Ordering::Release);
    }
    assert!(sender.claimed() > 1_000 * CAPACITY as u64);
}

#[test]
fn a_position_shared_by_the_peer_where_no_frame_can_end_frees_nothing() {
    let (sender, _, cell) = shared();
    send(&sender, b"some bytes, more than sixteen of them");
    for position in [1, 8, 17, 24] {
        cell.word(0).store(position, std::sync::atomic::Ordering::Release);
        assert_eq!(sender.released(), 0);
        assert_eq!(sender.unacknowledged(0, |_, _, _| ()), sender.claimed());
    }
    cell.word(0)
        .store(sender.claimed(), std::sync::atomic::Ordering::Release);
    assert_eq!(sender.released(), sender.claimed());
}

//! Frames that are claimed, committed and consumed one by one.

use super::{CAPACITY, carry, pair, salted, send, take};
use crate::frame::{HEADER, Integrity, Kind, size};
use crate::ring::*;

#[test]
fn frames_of_every_size_arrive_in_order_over_many_laps() {
    for integrity in [Integrity::None, salted()] {
        let (sender, mut receiver) = pair(integrity, Arrival::Counted);
        for round in 0..2_000usize {
            let body = vec![round as u8; round % (sender.max_body() + 1)];
            send(&sender, &body);
            carry(&sender, &mut receiver);
            assert_eq!(take(&mut receiver), Some(body));
            assert_eq!(take(&mut receiver), None);
            sender.release(receiver.consumed()).unwrap();
        }
        assert!(sender.claimed() > 100 * CAPACITY as u64);
    }
}

#[test]
fn a_full_ring_refuses_and_frees_exactly_what_was_released() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    let mut frames = 0;
    while sender
        .claim(48)
        .map(|claim| claim.commit(Kind::Message, 0, 0, 0))
        .is_ok()
    {
        frames += 1;
    }
    assert_eq!(frames, CAPACITY / size(48));
    assert!(matches!(
        sender.claim(48),
        Err(ClaimError::Full { free: 0, needed: 64 })
    ));
    assert_eq!(
        sender.release(64),
        Err(CreditError {
            acknowledged: 64,
            offered: 0
        })
    );
    sender.committed(0, u64::MAX);
    sender.release(64).unwrap();
    assert!(sender.claim(48).is_ok());
    assert!(sender.claim(48).is_err());
}

#[test]
fn a_frame_over_the_limit_is_refused_with_the_limit() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    let max = sender.max_body();
    assert_eq!(
        sender.claim(max + 1).err(),
        Some(ClaimError::TooLarge { len: max + 1, max })
    );
    assert!(sender.claim(max).is_ok());
}

#[test]
fn an_abandoned_claim_travels_as_padding_and_holds_up_nobody() {
    let (sender, mut receiver) = pair(salted(), Arrival::Counted);
    drop(sender.claim(100).unwrap());
    send(&sender, b"after");
    carry(&sender, &mut receiver);
    assert_eq!(take(&mut receiver), Some(b"after".to_vec()));
}

#[test]
fn the_pusher_stops_at_the_first_frame_that_is_not_committed() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    let first = sender.claim(10).unwrap();
    send(&sender, b"second");
    assert_eq!(sender.committed(0, u64::MAX), 0);
    first.commit(Kind::Message, 0, 0, 0);
    assert_eq!(sender.committed(0, u64::MAX), 64);
    assert_eq!(sender.committed(0, 40), 32);
}

#[test]
fn checked_arrival_sees_a_frame_only_when_every_byte_is_there() {
    let (sender, mut receiver) = pair(salted(), Arrival::Checked);
    send(&sender, b"sixteen byte msg and then some");
    let [bytes, _] = sender.span(0, sender.committed(0, u64::MAX));
    let words = bytes.len() / 8;
    // Every subset of the frame's words that lacks at least one non-zero word.
    for present in 0..(1u32 << words) - 1 {
        let mut missing_is_zero = true;
        for word in 0..words {
            let value = u64::from_le_bytes(bytes[word * 8..word * 8 + 8].try_into().unwrap());
            let here = present & (1 << word) != 0;
            missing_is_zero &= here || value == 0;
            receiver
                .memory()
                .word(word * 8)
                .store(if here { value } else { 0 }, std::sync::atomic::Ordering::Relaxed);
        }
        assert_eq!(
            receiver.peek().unwrap().is_some(),
            missing_is_zero,
            "words present: {present:b}"
        );
    }
    for word in 0..words {
        let value = u64::from_le_bytes(bytes[word * 8..word * 8 + 8].try_into().unwrap());
        receiver
            .memory()
            .word(word * 8)
            .store(value, std::sync::atomic::Ordering::Relaxed);
    }
    assert_eq!(
        take(&mut receiver),
        Some(b"sixteen byte msg and then some".to_vec())
    );
    assert!(receiver.is_empty());
}

#[test]
fn resuming_forgets_what_was_not_consumed_and_takes_it_again() {
    let (sender, mut receiver) = pair(salted(), Arrival::Counted);
    send(&sender, b"first");
    send(&sender, b"second");
    carry(&sender, &mut receiver);
    assert_eq!(take(&mut receiver), Some(b"first".to_vec()));
    receiver.forget_unconsumed();
    receiver.resume(Arrival::Counted);
    assert_eq!(receiver.arrived(), receiver.consumed());
    assert_eq!(take(&mut receiver), None);
    carry(&sender, &mut receiver);
    assert_eq!(take(&mut receiver), Some(b"second".to_vec()));
}

#[test]
fn several_producers_and_one_pusher_lose_nothing_and_keep_each_order() {
    const EACH: u64 = 20_000;
    const PRODUCERS: u64 = 3;
    let (sender, mut receiver) = pair(Integrity::None, Arrival::Counted);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let sender = &sender;
            scope.spawn(move || {
                for sequence in 0..EACH {
                    let mut claim = loop {
                        match sender.claim(16) {
                            Ok(claim) => break claim,
                            Err(_) => std::thread::yield_now(),
                        }
                    };
                    claim.body()[..8].copy_from_slice(&producer.to_le_bytes());
                    claim.body()[8..].copy_from_slice(&sequence.to_le_bytes());
                    claim.commit(Kind::Message, 0, 0, 0);
                }
            });
        }
        let mut next = [0u64; PRODUCERS as usize];
        while next.iter().sum::<u64>() < PRODUCERS * EACH {
            carry(&sender, &mut receiver);
            while let Some(body) = take(&mut receiver) {
                let producer = u64::from_le_bytes(body[..8].try_into().unwrap()) as usize;
                assert_eq!(u64::from_le_bytes(body[8..].try_into().unwrap()), next[producer]);
                next[producer] += 1;
            }
            sender.release(receiver.consumed()).unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_closed_ring_refuses_claims_and_keeps_what_was_committed() {
    let (sender, mut receiver) = pair(Integrity::None, Arrival::Counted);
    send(&sender, b"before");
    assert_eq!(sender.close(), 32);
    assert_eq!(sender.claim(1).err(), Some(ClaimError::Closed));
    carry(&sender, &mut receiver);
    assert_eq!(take(&mut receiver), Some(b"before".to_vec()));
    assert_eq!(sender.close(), 32);
}

#[test]
fn a_piece_ends_where_the_ring_does_and_leaves_the_zeroes_behind_its_last_frame_out() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    let header = HEADER as u64;
    send(&sender, &[1; 64]);
    let piece = sender.committed_piece(0, u64::MAX);
    assert_eq!((piece.end, piece.content_end), (80, header + 64));
    send(&sender, b"x");
    let piece = sender.committed_piece(0, u64::MAX);
    assert_eq!((piece.end, piece.content_end), (96, 80 + header + 1));
    // Up to the ring's end, which the next frame does not fit before.
    while sender.claimed() < CAPACITY as u64 - 64 {
        send(&sender, &[1; 20]);
    }
    sender.committed(0, u64::MAX);
    sender.release(sender.claimed()).unwrap();
    let padding = sender.claimed();
    send(&sender, &[1; 64]);
    let piece = sender.committed_piece(padding, u64::MAX);
    assert_eq!(
        (piece.end, piece.content_end),
        (CAPACITY as u64, padding + header)
    );
    let piece = sender.committed_piece(piece.end, u64::MAX);
    assert_eq!(piece.end, CAPACITY as u64 + 80);
}

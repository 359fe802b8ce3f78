//! The ring alone: a sender's ring mirrored by hand into a receiver's.

use super::*;
use crate::frame::{HEADER, Header, Integrity, Kind, size};
use crate::memory::RingMemory;
use crate::random::Random;

const CAPACITY: usize = 4096;

fn salted() -> Integrity {
    Integrity::salted(0x5eed)
}

fn pair(integrity: Integrity, arrival: Arrival) -> (SendRing, ReceiveRing) {
    let memory = || RingMemory::anonymous(CAPACITY).unwrap();
    (
        SendRing::new(memory(), integrity.clone()),
        ReceiveRing::new(memory(), integrity, arrival),
    )
}

/// Carries everything committed, as a counting link does.
fn carry(sender: &SendRing, receiver: &mut ReceiveRing) {
    let from = receiver.arrived();
    let to = sender.committed(from, u64::MAX);
    for mut piece in sender.span(from, to) {
        while !piece.is_empty() {
            let room = receiver.writable();
            let len = room.len().min(piece.len());
            room[..len].copy_from_slice(&piece[..len]);
            receiver.advance(len);
            piece = &piece[len..];
        }
    }
}

fn send(ring: &SendRing, body: &[u8]) {
    let mut claim = ring.claim(body.len()).unwrap();
    claim.body().copy_from_slice(body);
    claim.commit(Kind::Message, 0, 0, 7);
}

fn take(ring: &mut ReceiveRing) -> Option<Vec<u8>> {
    loop {
        let frame = ring.peek().unwrap()?;
        let (taken, frame_size) = (frame.body.to_vec(), frame.header.size());
        let kind = frame.header.kind;
        ring.consume(frame_size);
        if kind == Kind::Message {
            return Some(taken);
        }
    }
}

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
fn frames_written_at_once_are_the_bytes_of_frames_written_one_by_one() {
    for integrity in [Integrity::None, salted()] {
        let (together, mut receiver) = pair(integrity.clone(), Arrival::Counted);
        let (one_by_one, _) = pair(integrity, Arrival::Counted);
        let bodies: Vec<Vec<u8>> = (0..9).map(|number| vec![number as u8 + 1; 7 * number]).collect();
        let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        for _ in 0..200 {
            let mut left = &slices[..];
            while !left.is_empty() {
                let written = together.write(Kind::Message, 7, left, all).unwrap();
                for body in &left[..written] {
                    send(&one_by_one, body);
                }
                assert_eq!(together.claimed(), one_by_one.claimed());
                let (from, to) = (receiver.consumed(), together.claimed());
                assert_eq!(together.committed(from, u64::MAX), to);
                assert_eq!(one_by_one.committed(from, u64::MAX), to);
                assert_eq!(together.span(from, to), one_by_one.span(from, to));
                carry(&together, &mut receiver);
                for body in &left[..written] {
                    assert_eq!(take(&mut receiver).as_deref(), Some(*body));
                }
                assert_eq!(take(&mut receiver), None);
                together.release(to).unwrap();
                one_by_one.release(to).unwrap();
                left = &left[written..];
            }
        }
        assert!(together.claimed() > 20 * CAPACITY as u64);
    }
}

#[test]
fn of_frames_written_at_once_as_many_go_as_there_is_room_for() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    let body = [1; 48];
    let (longest, too_long) = (vec![2; sender.max_body()], vec![3; sender.max_body() + 1]);
    assert_eq!(sender.write(Kind::Message, 7, &[], all), Ok(0));
    // What can never go ends them, and is refused when its turn comes.
    assert_eq!(
        sender.write(Kind::Message, 7, &[&body, &too_long, &body], all),
        Ok(1)
    );
    assert!(matches!(
        sender.write(Kind::Message, 7, &[&too_long], all),
        Err(ClaimError::TooLarge { .. })
    ));
    assert_eq!(
        sender.write(Kind::Message, 7, &[&longest, &longest, &longest, &longest], all),
        Ok(3)
    );
    let left = CAPACITY / size(48) - 1 - 3 * 16;
    assert_eq!(sender.write(Kind::Message, 7, &[&body[..]; 64], all), Ok(left));
    assert_eq!(
        sender.write(Kind::Message, 7, &[&body], all),
        Err(ClaimError::Full { free: 0, needed: 64 })
    );
    sender.close();
    assert_eq!(
        sender.write(Kind::Message, 7, &[&body], all),
        Err(ClaimError::Closed)
    );
}

#[test]
fn of_frames_written_at_once_no_more_go_than_are_allowed_of_those_that_fit() {
    let (sender, mut receiver) = pair(Integrity::None, Arrival::Counted);
    let bodies = [[1; 8], [2; 8], [3; 8]];
    let slices = bodies.each_ref().map(|body| &body[..]);
    let mut asked = Vec::new();
    for allowed in [0, 2, 9] {
        let wrote = sender.write(Kind::Message, 7, &slices, |fit| {
            asked.push(fit);
            allowed
        });
        assert_eq!(wrote, Ok(allowed.min(3)));
    }
    assert_eq!(asked, [3, 3, 3]);
    carry(&sender, &mut receiver);
    let came: Vec<u8> = std::iter::from_fn(|| take(&mut receiver))
        .map(|body| body[0])
        .collect();
    assert_eq!(came, [1, 2, 1, 2, 3]);
}

/// Lets all go that fit.
fn all(fit: usize) -> usize {
    fit
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
fn credit_beyond_what_was_sent_is_an_error_and_frees_nothing() {
    let (sender, _) = pair(Integrity::None, Arrival::Counted);
    send(&sender, b"one");
    assert_eq!(sender.committed(0, u64::MAX), 16);
    assert_eq!(
        sender.release(17),
        Err(CreditError {
            acknowledged: 17,
            offered: 16
        })
    );
    assert_eq!(sender.released(), 0);
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
fn garbage_in_the_ring_is_an_error_or_nothing_but_never_a_panic() {
    let mut random = Random::new(1);
    for arrival in [Arrival::Counted, Arrival::Published, Arrival::Checked] {
        let integrity = if arrival == Arrival::Checked {
            salted()
        } else {
            Integrity::None
        };
        for _ in 0..2_000 {
            let mut receiver = pair(integrity.clone(), arrival).1;
            for word in 0..CAPACITY / 8 {
                let noise = random.next();
                // Mostly plausible first words, so that decoding gets somewhere.
                let value = if word % 2 == 0 {
                    noise & 0x0008_0003_1000_00ff | 2 << 28
                } else {
                    noise
                };
                receiver
                    .memory()
                    .word(word * 8)
                    .store(value, std::sync::atomic::Ordering::Relaxed);
            }
            receiver.advance(if arrival == Arrival::Counted { CAPACITY } else { 0 });
            for _ in 0..CAPACITY / size(0) {
                match receiver.peek() {
                    Ok(Some(frame)) => {
                        let frame_size = frame.header.size();
                        receiver.consume(frame_size);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
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
fn an_acknowledgement_where_no_frame_can_end_is_refused() {
    let (sender, mut receiver) = pair(Integrity::None, Arrival::Counted);
    send(&sender, b"some bytes, more than sixteen of them");
    carry(&sender, &mut receiver);
    for position in [1, 8, 15, 17, 24] {
        assert_eq!(
            sender.release(position),
            Err(CreditError {
                acknowledged: position,
                offered: sender.claimed()
            })
        );
    }
    assert_eq!(sender.release(sender.claimed()), Ok(()));
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

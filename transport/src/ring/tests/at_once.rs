//! Frames that are written at once.

use super::{CAPACITY, carry, pair, salted, send, take};
use crate::frame::{Integrity, Kind, size};
use crate::ring::*;

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

//! What a broken peer can write or say.

use super::{CAPACITY, carry, pair, salted, send};
use crate::frame::{Integrity, size};
use crate::random::Random;
use crate::ring::*;

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

//! What a receiver makes of bytes that no sender of ours makes.

use transport::lane::{LANES, Lane};
use transport::link::{LinkError, Push, ReceiveLanes};
use transport::ring::Position;

use super::{End, SMALL};
use crate::pipe::{Pipe, Random};
use crate::sender::{Offered, SpanSender};
use crate::span::{HEADER, Header};

/// What a receiver makes of bytes that no sender made.
fn outcome(bytes: &[u8]) -> Result<ReceiveLanes, LinkError> {
    let (near, far) = Pipe::pair(1, 1 << 20, usize::MAX);
    let mut end = End::new(far, &SMALL);
    near.inject(bytes);
    near.close();
    loop {
        match end.receiver.poll_spans(&mut end.receive) {
            Ok(_) => {}
            Err(LinkError::Closed) => return Ok(end.receive),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_span_beyond_the_credit_is_refused_and_one_that_fills_it_is_taken() {
    let span = |length: u32| {
        let header = Header {
            lane: Lane::Ordinary,
            length,
            acknowledged: 0,
        };
        [&header.encode()[..], &vec![0; length as usize]].concat()
    };
    let filled = outcome(&span(SMALL.ordinary)).unwrap();
    assert_eq!(filled.rings[1].arrived(), u64::from(SMALL.ordinary));
    for bytes in [
        span(SMALL.ordinary + 1),
        [span(SMALL.ordinary), span(1)].concat(),
        [span(16), span(SMALL.ordinary - 15)].concat(),
    ] {
        match outcome(&bytes) {
            Err(LinkError::Protocol(reason)) => {
                assert!(reason.contains("whose ring has room for"), "{reason}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    for (acknowledged, accepted) in [(32, true), (33, false), (64, false), (u64::MAX, false)] {
        let (near, far) = Pipe::pair(1, 1 << 20, usize::MAX);
        let mut end = End::new(far, &SMALL);
        end.commit(Lane::Ordinary, b"pushed").unwrap();
        while end.push() == Push::Blocked {}
        end.commit(Lane::Ordinary, b"not pushed").unwrap();
        let header = Header {
            lane: Lane::Ordinary,
            length: 0,
            acknowledged,
        };
        near.inject(&header.encode());
        let outcome = loop {
            match end.receiver.poll_spans(&mut end.receive) {
                Ok(false) => {}
                other => break other,
            }
        };
        let credit = end.receive.credit[Lane::Ordinary.index()];
        match outcome {
            Ok(_) => assert!(accepted && credit == acknowledged),
            Err(LinkError::Protocol(_)) => assert!(!accepted && credit == 0),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let mut random = Random::new(7);
    for _ in 0..3_000 {
        let mut bytes: Vec<u8> = (0..random.below(8_000)).map(|_| random.next() as u8).collect();
        // Mostly plausible headers, so that some are taken.
        for chunk in bytes.chunks_exact_mut(HEADER) {
            if random.below(8) > 0 {
                let length = random.below(64) as u32;
                let lane = Lane::ALL[random.below(LANES)];
                let header = Header {
                    lane,
                    length,
                    acknowledged: 0,
                };
                chunk.copy_from_slice(&header.encode());
            }
        }
        if let Ok(lanes) = outcome(&bytes) {
            for ring in &lanes.rings {
                assert!(ring.arrived() <= ring.capacity());
            }
        }
    }
}

#[test]
fn a_peer_that_resumes_before_what_it_consumed_is_refused() {
    let refused = |from: Position, released: Position| {
        let (near, _far) = Pipe::pair(1, 1 << 20, usize::MAX);
        let mut end = End::new(near.clone(), &SMALL);
        for _ in 0..3 {
            end.commit(Lane::Ordinary, &[0xff; 48]).unwrap();
        }
        end.send.ring(Lane::Ordinary).committed(0, released);
        end.send.ring(Lane::Ordinary).release(released).unwrap();
        let from = [0, from, 0];
        end.sender = SpanSender::new(near, from, Offered::starting(from));
        matches!(
            end.sender.push_spans(&end.send),
            Err(LinkError::Protocol(reason)) if reason.contains("resumed")
        )
    };
    assert!(refused(0, 64));
    assert!(!refused(64, 64));
}

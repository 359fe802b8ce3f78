//! Two ends in two threads.

use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport::lane::Lane;
use transport::link::{LinkError, Push};
use transport_tcp::Tcp;

use crate::end::{End, SIZES, soon};

/// The body of the message with this number, which either side can make.
fn body(lane: Lane, number: u64) -> Vec<u8> {
    let longest = SIZES.of(lane) as u64 / 4 - 16;
    let mix = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let len = if number.is_multiple_of(7) {
        mix % longest
    } else {
        mix % 200
    };
    (0..len).map(|at| (at + number) as u8).collect()
}

/// Sends and receives `count` messages in every lane.
fn exchange(mut end: End, count: u64) {
    let deadline = soon() + std::time::Duration::from_secs(40);
    let mut sent = [0; 3];
    let mut taken = [0; 3];
    let mut positions = [0; 3];
    let finished = |end: &End| {
        let rings = &end.send.rings;
        rings.iter().all(|ring| ring.released() == ring.claimed())
    };
    while taken != [count; 3] || sent != [count; 3] || !finished(&end) {
        for lane in Lane::ALL {
            let at = lane.index();
            while sent[at] < count && end.commit(lane, &body(lane, sent[at])).is_some() {
                sent[at] += 1;
            }
        }
        end.push().unwrap();
        let changed = end.poll().unwrap();
        for lane in Lane::ALL {
            let at = lane.index();
            while let Some((position, message)) = end.take(lane) {
                assert!(position >= positions[at]);
                assert!(message == body(lane, taken[at]), "{lane:?} {}", taken[at]);
                positions[at] = position;
                taken[at] += 1;
            }
        }
        if !changed {
            assert!(
                Instant::now() < deadline,
                "stuck: sent {sent:?}, taken {taken:?} of {count}"
            );
            std::thread::yield_now();
        }
    }
    // The peer still waits for the last acknowledgement.
    assert_eq!(end.push().unwrap(), Push::Done);
    for ring in &end.receive.rings {
        let laps = ring.consumed() / ring.capacity();
        assert!(laps >= count / 100, "{laps} laps");
    }
}

fn exchange_over(tcp: &Tcp, count: u64) {
    let (one, other) = End::pair(tcp);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(one, count));
        exchange(other, count);
    });
}

#[test]
fn all_lanes_carry_both_directions_at_once_over_many_laps() {
    exchange_over(&Tcp::new(), 2_000);
}

#[test]
fn sockets_with_hardly_any_buffer_carry_the_same() {
    exchange_over(&Tcp::new().send_buffer(4 << 10).receive_buffer(8 << 10), 500);
}

#[test]
fn a_full_socket_blocks_the_push_and_nothing_is_lost_when_it_goes_on() {
    let (mut one, mut other) = End::pair(&Tcp::new().send_buffer(4 << 10).receive_buffer(4 << 10));
    let mut number = 0;
    while one.commit(Lane::Large, &body(Lane::Large, number)).is_some() {
        number += 1;
    }
    assert_eq!(one.push().unwrap(), Push::Blocked);
    assert_eq!(one.push().unwrap(), Push::Blocked);
    let mut taken = 0;
    let deadline = soon();
    while taken < number {
        one.push().unwrap();
        other.poll().unwrap();
        while let Some((_, message)) = other.take(Lane::Large) {
            assert!(message == body(Lane::Large, taken));
            taken += 1;
        }
        assert!(Instant::now() < deadline);
    }
    assert_eq!(one.push().unwrap(), Push::Done);
}

#[test]
fn an_acknowledgement_alone_reaches_the_sender() {
    let (mut one, mut other) = End::pair(&Tcp::new());
    one.commit(Lane::Ordinary, b"message").unwrap();
    assert_eq!(one.push().unwrap(), Push::Done);
    other.wait_for_news();
    assert_eq!(other.take(Lane::Ordinary).unwrap().1, b"message");
    assert_eq!(other.push().unwrap(), Push::Done);
    one.wait_for_news();
    assert_eq!(one.receive.credit, [0, 32, 0]);
    assert_eq!(one.send.ring(Lane::Ordinary).released(), 32);
}

#[test]
fn what_stands_in_the_rings_survives_the_peer_and_then_the_link_is_closed() {
    let (mut one, mut other) = End::pair(&Tcp::new());
    one.commit(Lane::Control, b"farewell").unwrap();
    one.push().unwrap();
    drop(one);
    let deadline = soon();
    let error = loop {
        match other.poll() {
            Ok(_) => assert!(Instant::now() < deadline),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::Closed), "{error}");
    assert_eq!(other.take(Lane::Control).unwrap().1, b"farewell");
    let error = loop {
        other.commit(Lane::Ordinary, b"anybody there?").unwrap();
        match other.push() {
            Ok(_) => assert!(Instant::now() < deadline),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::Closed), "{error}");
}

#[test]
fn an_armed_receiver_is_woken_by_what_arrives_afterwards() {
    let (mut one, mut other) = End::pair(&Tcp::new());
    let readable = |end: &End, wait: i64| {
        let timeout = Timespec {
            tv_sec: wait,
            tv_nsec: 0,
        };
        let descriptors = end.link.receiver.descriptors();
        let mut wanted: Vec<_> = descriptors
            .iter()
            .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
            .collect();
        poll(&mut wanted, Some(&timeout)).unwrap() > 0
    };
    for _ in 0..50 {
        while other.poll().unwrap() {}
        assert!(other.link.receiver.arm(&other.receive).unwrap());
        assert!(!readable(&other, 0));
        one.commit(Lane::Ordinary, b"wake").unwrap();
        one.push().unwrap();
        assert!(readable(&other, 20));
        // Something has arrived: not the time to sleep.
        other.wait_for_news();
        assert!(!other.link.receiver.arm(&other.receive).unwrap());
        other.take(Lane::Ordinary).unwrap();
        assert!(other.link.receiver.arm(&other.receive).unwrap());
        other.push().unwrap();
        one.wait_for_news();
    }
}

#[test]
fn push_and_poll_run_in_two_threads_of_each_side() {
    let (one, other) = End::pair(&Tcp::new());
    let count = 50_000u64;
    std::thread::scope(|scope| {
        for end in [one, other] {
            let End {
                send,
                mut receive,
                link,
            } = end;
            let (mut sender, mut receiver) = (link.sender, link.receiver);
            let send = std::sync::Arc::new(send);
            let pushing = send.clone();
            let deadline = soon();
            let finished = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let taken_all = finished.clone();
            scope.spawn(move || {
                let mut number = 0u64;
                while number < count || !taken_all.load(std::sync::atomic::Ordering::Acquire) {
                    while number < count {
                        let Ok(mut claim) = pushing.ring(Lane::Ordinary).claim(8) else {
                            break;
                        };
                        claim.body().copy_from_slice(&number.to_le_bytes());
                        claim.commit(transport::frame::Kind::Message, 0, 0, 0);
                        number += 1;
                    }
                    // The peer may be done, and gone, before this side's last acknowledgement.
                    if sender.push(&pushing).is_err() {
                        break;
                    }
                    assert!(Instant::now() < deadline, "stuck at {number}");
                    std::thread::yield_now();
                }
                let _ = sender.push(&pushing);
            });
            scope.spawn(move || {
                let mut number = 0u64;
                let ring = Lane::Ordinary.index();
                while number < count || send.rings[ring].released() < count * 32 {
                    match receiver.poll(&mut receive) {
                        Ok(_) => {}
                        Err(LinkError::Closed) if number == count => break,
                        Err(error) => panic!("{error}"),
                    }
                    send.rings[ring].release(receive.credit[ring]).unwrap();
                    while let Some(frame) = receive.rings[ring].peek().unwrap() {
                        if frame.header.kind == transport::frame::Kind::Message {
                            assert_eq!(frame.body, number.to_le_bytes());
                            number += 1;
                        }
                        let size = frame.header.size();
                        receive.rings[ring].consume(size);
                    }
                    let consumed = receive.rings[ring].consumed();
                    send.acknowledge[ring].store(consumed, std::sync::atomic::Ordering::Release);
                    assert!(Instant::now() < deadline, "stuck at {number}");
                    std::thread::yield_now();
                }
                finished.store(true, std::sync::atomic::Ordering::Release);
            });
        }
    });
}

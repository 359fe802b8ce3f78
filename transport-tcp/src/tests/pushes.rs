//! What one push puts on the stream, and in which order.

use transport::frame::Kind;
use transport::lane::Lane;
use transport::link::Push;

use super::{End, ROOMY, SMALL};
use crate::pipe::Pipe;
use crate::receiver::BUFFER;
use crate::sender::MAX_SPAN;
use crate::span::{HEADER, Header};

#[test]
fn the_lanes_of_one_push_go_control_first_and_the_bytes_are_golden() {
    let (near, far) = Pipe::pair(1, 1 << 20, usize::MAX);
    let mut end = End::new(near, &SMALL);
    end.commit(Lane::Large, b"large").unwrap();
    end.commit(Lane::Control, b"control").unwrap();
    end.send.acknowledge[Lane::Ordinary.index()].store(0x0102, std::sync::atomic::Ordering::Release);
    while end.push() == Push::Blocked {}
    let golden = [
        // Control: 32 bytes, nothing acknowledged. A frame of 7 bytes for mailbox 7.
        &[0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[7, 0, 0, 0x20, 7, 0, 0, 0, 0, 0, 0, 0],
        b"control\0\0\0\0\0\0\0\0\0\0\0\0\0",
        // Ordinary: an acknowledgement alone.
        &[1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0],
        // Large.
        &[2, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 0x20, 7, 0, 0, 0, 0, 0, 0, 0],
        b"large\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ]
    .concat();
    assert_eq!(far.drain(), golden);
}

#[test]
fn control_waits_for_at_most_the_span_that_has_begun() {
    // A backlog of many frames, and one frame that is longer than any span.
    for (lane, frames, len) in [(Lane::Ordinary, 100, 10_000), (Lane::Large, 1, 500_000)] {
        let (near, far) = Pipe::pair(1, 1_000, usize::MAX);
        let (mut near, mut end) = (End::new(near, &ROOMY), End::new(far, &ROOMY));
        for _ in 0..frames {
            near.commit_for(&mut end, lane, vec![1; len]);
        }
        assert_eq!(near.push(), Push::Blocked);
        near.commit_for(&mut end, Lane::Control, b"urgent".to_vec());
        while !end.consume(Lane::Control) {
            near.push();
            end.poll();
        }
        assert!(end.receive.ring(lane).arrived() <= MAX_SPAN + BUFFER as u64);
    }
}

#[test]
fn an_acknowledgement_goes_once_and_with_bytes_when_there_are_any() {
    let (near, far) = Pipe::pair(5, 1 << 20, usize::MAX);
    let mut end = End::new(near, &SMALL);
    let ordinary = &end.send.acknowledge[Lane::Ordinary.index()];
    ordinary.store(64, std::sync::atomic::Ordering::Release);
    end.commit(Lane::Ordinary, b"with it").unwrap();
    for _ in 0..20 {
        end.push();
    }
    let sent = far.drain();
    assert_eq!(sent.len(), HEADER + 32);
    let header = Header::decode(sent.first_chunk().unwrap()).unwrap();
    assert_eq!((header.acknowledged, header.length), (64, 32));
}

#[test]
fn an_uncommitted_frame_holds_up_its_own_lane_alone_and_no_push() {
    let (near, far) = Pipe::pair(5, 1 << 20, usize::MAX);
    let mut end = End::new(near, &SMALL);
    let hole = end.send.rings[Lane::Ordinary.index()].claim(10).unwrap();
    let mut behind = end.send.rings[Lane::Ordinary.index()].claim(10).unwrap();
    behind.body().fill(9);
    behind.commit(Kind::Message, 0, 0, 0);
    let mut large = end.send.rings[Lane::Large.index()].claim(10).unwrap();
    large.body().fill(8);
    large.commit(Kind::Message, 0, 0, 0);
    while end.sender.push_spans(&end.send).unwrap() == Push::Blocked {}
    assert_eq!(far.drain().len(), HEADER + 32);
    hole.commit(Kind::Message, 0, 0, 0);
    while end.sender.push_spans(&end.send).unwrap() == Push::Blocked {}
    assert_eq!(far.drain().len(), HEADER + 64);
}

//! How many reads bytes cost.

use transport::lane::{LANES, Lane};
use transport::link::Push;

use super::{End, ROOMY, SMALL};
use crate::pipe::Pipe;
use crate::sender::MAX_SPAN;

#[test]
fn a_small_message_costs_one_read() {
    let (near, far) = Pipe::pair(1, 1 << 20, usize::MAX);
    let (mut near, mut end) = (End::new(near, &SMALL), End::new(far.clone(), &SMALL));
    let mut reads = 0;
    for round in 0..1_000u32 {
        near.commit_for(&mut end, Lane::Ordinary, round.to_le_bytes().to_vec());
        near.push();
        let before = far.reads();
        while !end.poll() {}
        reads += far.reads() - before;
        assert!(end.consume(Lane::Ordinary));
        end.acknowledge(Lane::Ordinary);
        end.push();
        while !near.poll() {}
    }
    // The stream interrupts one read in sixteen.
    assert!(reads < 1_200, "{reads} reads");
}

#[test]
fn a_large_flow_is_read_in_place_in_few_large_pieces() {
    let (near, far) = Pipe::pair(1, 64 << 20, usize::MAX);
    let (mut near, mut end) = (End::new(near, &ROOMY), End::new(far.clone(), &ROOMY));
    near.commit_for(&mut end, Lane::Large, vec![7; 500_000]);
    assert_eq!(near.push(), Push::Done);
    while end.poll() {}
    assert!(end.consume(Lane::Large));
    // Each span of 128 KiB: at most one read of its beginning and one of its rest.
    let spans = 500_000 / MAX_SPAN as usize + 1;
    assert!(far.reads() <= 2 * spans + 3, "{} reads", far.reads());
}

#[test]
fn many_small_spans_are_taken_in_with_one_read() {
    let (near, far) = Pipe::pair(3, 1 << 20, usize::MAX);
    let (mut near, mut end) = (End::new(near, &SMALL), End::new(far.clone(), &SMALL));
    for round in 0..40u8 {
        near.commit_for(&mut end, Lane::ALL[usize::from(round) % LANES], vec![round; 20]);
        near.push();
    }
    while end.poll() {}
    for lane in Lane::ALL {
        while end.consume(lane) {}
        assert!(end.expected[lane.index()].is_empty());
    }
    assert!(far.reads() <= 3, "{} reads", far.reads());
}

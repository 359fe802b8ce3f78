//! The two halves of a link over a stream in memory, which cuts the bytes wherever it likes.

use std::collections::VecDeque;

use transport::frame::{Integrity, Kind};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{LinkError, Push, ReceiveLanes, SendLanes, SendMemory, anonymous_lanes};
use transport::ring::{Arrival, Position};

use crate::pipe::{Pipe, Random};
use crate::receiver::{BUFFER, SpanReceiver};
use crate::sender::{MAX_SPAN, Offered, SpanSender};
use crate::span::{HEADER, Header};

const SMALL: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 4 << 10,
    large: 128 << 10,
};

const ROOMY: LaneSizes = LaneSizes {
    control: 4 << 10,
    ordinary: 1 << 20,
    large: 2 << 20,
};

/// One end of a session: its rings, its link, and a plain model of what must come.
struct End {
    send: SendLanes,
    receive: ReceiveLanes,
    sender: SpanSender<Pipe>,
    receiver: SpanReceiver<Pipe>,
    /// What the other end has committed and this one has not consumed: where it stands, and its bytes.
    expected: [VecDeque<(Position, Vec<u8>)>; LANES],
}

impl End {
    fn new(pipe: Pipe, sizes: &LaneSizes) -> End {
        let memory = SendMemory {
            rings: anonymous_lanes(sizes).unwrap(),
            cells: None,
        };
        let offered = Offered::starting([0; LANES]);
        End {
            send: SendLanes::new(memory, Integrity::None),
            receive: ReceiveLanes::new(anonymous_lanes(sizes).unwrap(), Integrity::None, Arrival::Counted),
            sender: SpanSender::new(pipe.clone(), [0; LANES], offered.clone()),
            receiver: SpanReceiver::new(pipe, offered),
            expected: Default::default(),
        }
    }

    fn pair(seed: u64, capacity: usize, cut: usize, sizes: &LaneSizes) -> (End, End) {
        let (one, other) = Pipe::pair(seed, capacity, cut);
        (End::new(one, sizes), End::new(other, sizes))
    }

    /// Commits a frame, if there is room; returns where it stands.
    fn commit(&self, lane: Lane, body: &[u8]) -> Option<Position> {
        let mut claim = self.send.ring(lane).claim(body.len()).ok()?;
        claim.body().copy_from_slice(body);
        let position = claim.position();
        claim.commit(Kind::Message, 0, 0, 7);
        Some(position)
    }

    fn commit_for(&self, other: &mut End, lane: Lane, body: Vec<u8>) {
        if let Some(position) = self.commit(lane, &body) {
            other.expected[lane.index()].push_back((position, body));
        }
    }

    /// Consumes the next frame of a lane, which must be the one that the model expects.
    fn consume(&mut self, lane: Lane) -> bool {
        let ring = self.receive.ring(lane);
        let Some(frame) = ring.peek().unwrap() else {
            return false;
        };
        let size = frame.header.size();
        if frame.header.kind == Kind::Message {
            let (position, body) = self.expected[lane.index()]
                .pop_front()
                .expect("a frame that nobody committed");
            assert_eq!(frame.position, position);
            assert!(frame.body == body, "other bytes at position {position}");
        }
        ring.consume(size);
        true
    }

    fn acknowledge(&self, lane: Lane) {
        use std::sync::atomic::Ordering;
        let consumed = self.receive.rings[lane.index()].consumed();
        self.send.acknowledge[lane.index()].store(consumed, Ordering::Release);
    }

    fn push(&mut self) -> Push {
        self.sender.push_spans(&self.send).unwrap()
    }

    fn poll(&mut self) -> bool {
        let changed = self.receiver.poll_spans(&mut self.receive).unwrap();
        for lane in Lane::ALL {
            self.send
                .ring(lane)
                .release(self.receive.credit[lane.index()])
                .unwrap();
        }
        changed
    }

    fn consumed(&self) -> [Position; LANES] {
        self.receive.rings.each_ref().map(|ring| ring.consumed())
    }
}

/// The link is lost with all that is in it, and another one takes over.
fn relink(one: &mut End, other: &mut End, seed: u64, capacity: usize, cut: usize) {
    let pipes = Pipe::pair(seed, capacity, cut);
    let consumed = (one.consumed(), other.consumed());
    for (end, pipe, from) in [(one, pipes.0, consumed.1), (other, pipes.1, consumed.0)] {
        let offered = Offered::starting(from);
        end.sender = SpanSender::new(pipe.clone(), from, offered.clone());
        end.receiver = SpanReceiver::new(pipe, offered);
        for (ring, position) in end.send.rings.iter().zip(from) {
            ring.release(position).unwrap();
        }
        for ring in &mut end.receive.rings {
            ring.forget_unconsumed();
            ring.resume(Arrival::Counted);
        }
    }
}

/// A random history of both ends; returns the positions that were reached.
fn history(seed: u64, capacity: usize, cut: usize, sizes: &LaneSizes, steps: usize) -> [Position; LANES] {
    let mut random = Random::new(seed);
    let (mut one, mut other) = End::pair(seed, capacity, cut, sizes);
    for step in 0..steps {
        let (this, that) = if random.below(2) == 0 {
            (&mut one, &mut other)
        } else {
            (&mut other, &mut one)
        };
        let lane = Lane::ALL[random.below(LANES)];
        match random.below(16) {
            0..=4 => {
                // Long bodies through a narrow stream take for ever and show nothing new.
                let most = this.send.ring(lane).max_body().min(cut.saturating_mul(50));
                let len = if random.below(4) == 0 {
                    random.below(most + 1)
                } else {
                    random.below(100)
                };
                let mut body = random.next().to_le_bytes().repeat(len / 8 + 1);
                body.truncate(len);
                this.commit_for(that, lane, body);
            }
            5..=8 => {
                this.push();
            }
            9..=12 => {
                this.poll();
            }
            13..=14 => while this.consume(lane) && random.below(4) > 0 {},
            _ => this.acknowledge(lane),
        }
        if random.below(5_000) == 0 {
            relink(
                &mut one,
                &mut other,
                seed.wrapping_add(step as u64),
                capacity,
                cut,
            );
        }
    }
    // Everything arrives, everything is acknowledged, and then there is silence.
    let mut quiet = 0;
    while quiet < 200 {
        let mut changed = false;
        for end in [&mut one, &mut other] {
            changed |= end.push() == Push::Blocked;
            changed |= end.poll();
            for lane in Lane::ALL {
                while end.consume(lane) {
                    changed = true;
                }
                end.acknowledge(lane);
            }
        }
        quiet = if changed { 0 } else { quiet + 1 };
    }
    for end in [&one, &other] {
        for lane in Lane::ALL {
            assert!(end.expected[lane.index()].is_empty());
            assert_eq!(end.send.ring(lane).released(), end.send.ring(lane).claimed());
        }
    }
    one.consumed()
}

#[test]
fn bytes_appear_at_the_same_positions_however_the_stream_is_cut_and_the_link_is_lost() {
    for (cut, capacity, steps) in [
        (1, 64, 10_000),
        (3, 10, 10_000),
        (17, 1_000, 20_000),
        (100, 4_096, 30_000),
        (5_000, 100_000, 30_000),
        (100_000, 1 << 20, 30_000),
        (usize::MAX, 1 << 20, 30_000),
        (usize::MAX, 500, 30_000),
    ] {
        let mut laps = 0;
        for seed in 1..5 {
            let positions = history(seed ^ cut as u64, capacity, cut, &SMALL, steps);
            laps += positions[Lane::Ordinary.index()] / u64::from(SMALL.ordinary);
        }
        if cut >= 5_000 {
            assert!(laps > 20, "cut {cut}: {laps} laps");
        }
    }
}

#[test]
fn spans_longer_than_the_buffer_and_than_the_limit_of_a_span_arrive_whole() {
    for seed in 0..4 {
        for cut in [1_000, 50_000, 300_000, usize::MAX] {
            history(seed, 400_000, cut, &ROOMY, 2_000);
        }
    }
}

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

#[test]
fn the_end_of_the_stream_right_behind_the_last_bytes_is_found_before_sleeping() {
    let (near, far) = Pipe::pair(2, 1 << 20, usize::MAX);
    let (mut near_end, mut end) = (End::new(near.clone(), &SMALL), End::new(far, &SMALL));
    near_end.commit_for(&mut end, Lane::Ordinary, b"last words".to_vec());
    while near_end.push() == Push::Blocked {}
    assert!(
        !end.receiver.may_sleep(&end.receive).unwrap(),
        "bytes are waiting"
    );
    while !end.poll() {}
    near.close();
    assert!(
        !end.receiver.may_sleep(&end.receive).unwrap(),
        "a frame is waiting"
    );
    assert!(end.consume(Lane::Ordinary));
    assert!(matches!(
        end.receiver.may_sleep(&end.receive),
        Err(LinkError::Closed)
    ));
}

#[test]
fn a_receiver_that_is_told_of_the_end_sleeps_without_a_further_look_once_it_has_taken_in_all_there_was() {
    let (near, far) = Pipe::pair(2, 1 << 20, usize::MAX);
    let (mut near_end, mut end) = (End::new(near.clone(), &SMALL), End::new(far, &SMALL));
    near_end.commit_for(&mut end, Lane::Ordinary, b"words".to_vec());
    while near_end.push() == Push::Blocked {}
    end.receiver.hear(false);
    assert!(end.poll());
    assert!(end.consume(Lane::Ordinary));
    near.close();
    assert!(
        end.receiver.may_sleep(&end.receive).unwrap(),
        "the end is told apart from what came before it"
    );
    end.receiver.hear(true);
    let polled = end.receiver.poll_spans(&mut end.receive);
    assert!(matches!(polled, Err(LinkError::Closed)), "{polled:?}");

    // What was told counts for one read, and the end that was told is looked for.
    for told in [None, Some(true)] {
        let (near, far) = Pipe::pair(2, 1 << 20, usize::MAX);
        let (mut near_end, mut end) = (End::new(near.clone(), &SMALL), End::new(far, &SMALL));
        end.receiver.hear(false);
        assert!(!end.poll());
        near_end.commit_for(&mut end, Lane::Ordinary, b"last words".to_vec());
        while near_end.push() == Push::Blocked {}
        if let Some(closed) = told {
            end.receiver.hear(closed);
        }
        assert!(end.poll());
        assert!(end.consume(Lane::Ordinary));
        near.close();
        let slept = end.receiver.may_sleep(&end.receive);
        assert!(matches!(slept, Err(LinkError::Closed)), "{slept:?}");
    }
}

#[test]
fn a_silent_stream_lets_the_receiver_sleep_with_part_of_a_header_in_hand() {
    let (near, far) = Pipe::pair(2, 1 << 20, usize::MAX);
    let mut end = End::new(far, &SMALL);
    assert!(end.receiver.may_sleep(&end.receive).unwrap());
    near.inject(&[0; 5]);
    while !end.poll() {}
    assert!(end.receiver.may_sleep(&end.receive).unwrap());
    near.inject(&[0; 11]);
    while !end.poll() {}
    assert!(end.receiver.may_sleep(&end.receive).unwrap());
}

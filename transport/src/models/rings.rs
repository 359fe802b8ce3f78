//! Claim, commit, push, release; and over memory that both ends map: claim, commit, poll, consume.

use std::sync::Arc;

use super::{CAPACITY, Expect, explore, send, try_send, try_send_both};
use crate::frame::{HEADER, Integrity, Kind};
use crate::memory::RingMemory;
use crate::ring::{ACKNOWLEDGED, Arrival, CELL, Position, ReceiveRing, SendRing};
use crate::sync::atomic::Ordering;

/// Takes what is committed from `at` on, as a link that carries it would: as plain bytes. Returns where it ends.
fn carry(ring: &SendRing, at: Position, expect: &mut Expect) -> Position {
    let end = ring.committed(at, u64::MAX);
    let bytes = ring.span(at, end).concat();
    let frame = HEADER + ring.max_body();
    for frame in bytes.chunks(frame) {
        expect.take(ring, &frame[HEADER..]);
    }
    end
}

/// Two producers, one thread that carries and one that releases what it is told was consumed, on a ring that is almost
/// full: who claims must wait for a release, and writes where others have written.
pub(super) fn mirrored(preemptions: Option<usize>) {
    explore(preemptions, || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let ring = Arc::new(SendRing::new(memory, Integrity::None));
        let mut expect = Expect::new();
        for number in 0..3 {
            send(&ring, 0, number);
        }
        let producers = [1, 2].map(|sender| {
            let ring = ring.clone();
            loom::thread::spawn(move || send(&ring, sender, 0))
        });
        let driver = loom::thread::spawn(move || {
            let mut at = 0;
            while expect.taken() < 5 {
                let end = carry(&ring, at, &mut expect);
                if end == at {
                    loom::thread::yield_now();
                }
                ring.release(end).unwrap();
                at = end;
            }
        });
        for thread in producers.into_iter().chain([driver]) {
            thread.join().unwrap();
        }
    });
}

/// One who pushes, one who releases, one who claims what was released: three threads, as in a node whose driver takes in
/// credit while others send. Nobody waits, so that every order is explored.
pub(super) fn released_by_another(preemptions: Option<usize>) {
    written_anew(preemptions, |ring| {
        u8::from(try_send(ring, 1, 0)) + u8::from(try_send(ring, 2, 0))
    });
}

/// The same, of frames that are written at once.
pub(super) fn written_together(preemptions: Option<usize>) {
    written_anew(preemptions, |ring| try_send_both(ring, 1));
}

fn written_anew(preemptions: Option<usize>, produce: fn(&SendRing) -> u8) {
    explore(preemptions, move || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let ring = Arc::new(SendRing::new(memory, Integrity::None));
        let mut expect = Expect::new();
        for number in 0..4 {
            send(&ring, 0, number);
        }
        let full = carry(&ring, 0, &mut expect);
        let releasing = loom::thread::spawn({
            let ring = ring.clone();
            move || ring.release(full).unwrap()
        });
        let producer = loom::thread::spawn({
            let ring = ring.clone();
            move || produce(&ring)
        });
        let pusher = loom::thread::spawn({
            let ring = ring.clone();
            move || {
                // Of a frame that is being written nothing is seen, or all of it; of the last lap nothing.
                let seen = carry(&ring, full, &mut expect);
                (seen, expect)
            }
        });
        releasing.join().unwrap();
        let sent = producer.join().unwrap();
        let (seen, mut expect) = pusher.join().unwrap();
        carry(&ring, seen, &mut expect);
        assert_eq!(expect.taken(), 4 + sent);
    });
}

/// Two producers and a consumer of a ring that both ends map, almost full.
pub(super) fn shared(preemptions: Option<usize>) {
    explore(preemptions, || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let cell = RingMemory::anonymous(CELL).unwrap();
        let ring = Arc::new(SendRing::shared(memory.clone(), cell.clone()));
        let mut receive = ReceiveRing::new(memory, Integrity::None, Arrival::Published);
        let mut expect = Expect::new();
        for number in 0..2 {
            send(&ring, 0, number);
        }
        let producers = [1, 2].map(|sender| {
            let ring = ring.clone();
            loom::thread::spawn(move || send(&ring, sender, 0))
        });
        let consumer = loom::thread::spawn(move || {
            while expect.taken() < 4 {
                let Some(frame) = receive.peek().unwrap() else {
                    loom::thread::yield_now();
                    continue;
                };
                assert_eq!(frame.header.kind, Kind::Message);
                expect.take(&ring, frame.body);
                let size = frame.header.size();
                receive.consume(size);
                // As `ShmOutbound::post` does.
                cell.word(ACKNOWLEDGED)
                    .store(receive.consumed(), Ordering::Release);
            }
        });
        for thread in producers.into_iter().chain([consumer]) {
            thread.join().unwrap();
        }
    });
}

/// A consumer that gives up two slots of a full ring that both ends map, and two who each try once to claim one: they find
/// each other zeroing.
pub(super) fn shared_and_full(preemptions: Option<usize>) {
    explore(preemptions, || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let cell = RingMemory::anonymous(CELL).unwrap();
        let ring = Arc::new(SendRing::shared(memory.clone(), cell.clone()));
        let mut receive = ReceiveRing::new(memory, Integrity::None, Arrival::Published);
        for number in 0..3 {
            send(&ring, 0, number);
        }
        let consumer = loom::thread::spawn(move || {
            for _ in 0..2 {
                let size = receive.peek().unwrap().unwrap().header.size();
                receive.consume(size);
                cell.word(ACKNOWLEDGED)
                    .store(receive.consumed(), Ordering::Release);
            }
            receive
        });
        let producers = [1, 2].map(|sender| {
            let ring = ring.clone();
            loom::thread::spawn(move || u8::from(try_send(&ring, sender, 0)))
        });
        let mut receive = consumer.join().unwrap();
        let sent: u8 = producers
            .into_iter()
            .map(|producer| producer.join().unwrap())
            .sum();
        let mut left = 0;
        while let Some(frame) = receive.peek().unwrap() {
            left += 1;
            let size = frame.header.size();
            receive.consume(size);
        }
        assert_eq!(left, 1 + sent);
    });
}

/// A claim that races with the end of the session: it is refused, or its frame is found.
pub(super) fn closed(preemptions: Option<usize>) {
    explore(preemptions, || {
        let memory = RingMemory::anonymous(CAPACITY).unwrap();
        let ring = Arc::new(SendRing::new(memory, Integrity::None));
        let producer = loom::thread::spawn({
            let ring = ring.clone();
            move || try_send(&ring, 0, 0)
        });
        let closing = loom::thread::spawn({
            let ring = ring.clone();
            move || {
                let end = ring.close();
                let mut expect = Expect::new();
                let shown = ring.unacknowledged(0, |_, _, body| expect.take(&ring, body));
                (end, shown, expect)
            }
        });
        let sent = producer.join().unwrap();
        let (end, shown, mut expect) = closing.join().unwrap();
        // What was not committed yet is found by whoever looks again after the commit.
        assert_eq!(
            ring.unacknowledged(shown, |_, _, body| expect.take(&ring, body)),
            end
        );
        assert_eq!((sent, expect.taken()), (end > 0, u8::from(end > 0)));
    });
}

#[test]
fn frames_of_two_producers_are_carried_whole_once_and_in_order() {
    mirrored(Some(2));
}

#[test]
fn a_slot_is_written_anew_only_after_it_was_released() {
    released_by_another(None);
}

#[test]
fn frames_written_at_once_become_visible_whole_and_in_order() {
    written_together(None);
}

#[test]
fn frames_of_two_producers_are_read_in_place_whole_once_and_in_order() {
    shared(Some(2));
}

#[test]
fn a_slot_that_the_peer_gave_up_is_written_by_one_only() {
    shared_and_full(Some(3));
}

#[test]
fn a_closed_ring_has_every_frame_that_was_committed() {
    closed(None);
}

//! When a receiver may sleep.

use transport::lane::Lane;
use transport::link::{LinkError, Push};

use super::{End, SMALL};
use crate::pipe::Pipe;

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

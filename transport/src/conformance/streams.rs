//! Streams: what stays of those that come to nothing.

#![allow(missing_docs)]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::driving::block_on;
use super::{Harness, PATIENCE, Pair, builder, eventually, pair_with};
use crate::lane::Lane;
use crate::stream::{Incoming, OpenError, StreamListener, StreamOptions};
use crate::{Drive, Peer, Timing};

/// Handles that the peer may use.
fn handles(peer: &Peer) -> usize {
    peer.0.receive_side().handles.given()
}

/// Whether the peer has taken everything that was said to it.
fn is_told(peer: &Peer) -> bool {
    let taken = |lane| peer.0.send.ring(lane).released() >= peer.0.send.ring(lane).claimed();
    taken(Lane::Control) && taken(Lane::Ordinary)
}

/// Polls a stream that is being opened until somebody is to accept it.
fn asked_for<F: Future>(mut opening: std::pin::Pin<&mut F>, listener: &mut StreamListener) -> Incoming {
    let context = &mut Context::from_waker(Waker::noop());
    let start = Instant::now();
    loop {
        assert!(opening.as_mut().poll(context).is_pending());
        if let Poll::Ready(incoming) = listener.poll_accept(context) {
            return incoming.expect("the node is open");
        }
        assert!(start.elapsed() < PATIENCE, "not asked for in time");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn streams_that_come_to_nothing_leave_no_handle_behind(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(50),
        ..Timing::default()
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.timing(timing));
    eventually("b knows a", || b.peers().len() == 1);
    let to_a = b.peers().remove(0);
    let options = StreamOptions::default();
    let open = |name| Box::pin(to_b.open_stream(name, options));
    let settled = |why: &str, listeners: usize| {
        eventually(why, || (handles(&to_b), handles(&to_a)) == (0, listeners));
    };

    let refused = block_on(to_b.open_stream("nobody", options));
    assert!(matches!(refused, Err(OpenError::NobodyListens { .. })));
    settled("nobody listens", 0);

    let mut listener = b.listen_streams("echo", options).unwrap();
    let mut opening = open("echo");
    drop(asked_for(opening.as_mut(), &mut listener));
    assert!(matches!(block_on(opening), Err(OpenError::Refused)));
    settled("refused", 1);

    let mut opening = open("echo");
    let incoming = asked_for(opening.as_mut(), &mut listener);
    drop(opening);
    eventually("b is told", || is_told(&to_b));
    assert!(incoming.accept().is_err());
    settled("given up before it was accepted", 1);

    for accepted_is_dropped_first in [false, true] {
        let mut opening = open("echo");
        let accepted = asked_for(opening.as_mut(), &mut listener).accept().unwrap();
        if accepted_is_dropped_first {
            drop(accepted);
            eventually("a is told", || is_told(&to_a));
            drop(opening);
        } else {
            eventually("a is told", || is_told(&to_a));
            drop(opening);
            drop(accepted);
        }
        settled("given up after it was accepted", 1);
    }

    let mut opening = open("echo");
    drop(asked_for(opening.as_mut(), &mut listener).accept_receiver());
    assert!(matches!(block_on(opening), Err(OpenError::Refused)));
    settled("accepted as what it is not", 1);

    let context = &mut Context::from_waker(Waker::noop());
    let mut asked_of_one_who_goes = |name, listener: StreamListener, given_up: bool| {
        let (mut opening, start) = (open(name), Instant::now());
        while handles(&to_b) < 2 || !is_told(&to_b) {
            assert!(opening.as_mut().poll(context).is_pending() && start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
        if given_up {
            drop(opening);
            drop(listener);
        } else {
            drop(listener);
            assert!(matches!(block_on(opening), Err(OpenError::NobodyListens { .. })));
        }
        eventually("the listener was dropped", || handles(&to_b) == 0);
    };
    asked_of_one_who_goes("echo", listener, false);
    let listener = b.listen_streams("given up", options).unwrap();
    asked_of_one_who_goes("given up", listener, true);
    assert_eq!(a.dead_letters().count(), 0);

    let mut listener = b.listen_streams("again", options).unwrap();
    let mut opening = open("again");
    drop(asked_for(opening.as_mut(), &mut listener).accept().unwrap());
    eventually("a is told", || is_told(&to_a));
    to_b.close(Duration::ZERO);
    assert!(matches!(block_on(opening), Err(OpenError::SessionOver(_))));
    let session = std::sync::Arc::downgrade(&to_b.0);
    drop(to_b);
    eventually("nothing keeps the session", || session.strong_count() == 0);
}

pub fn an_answer_to_a_stream_that_was_given_up_leaves_no_handle_behind(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(50),
        silence: 4 * PATIENCE,
        ..Timing::default()
    };
    let b = builder(harness, "b").listen(&harness.address()).timing(timing);
    // Knows nothing but what it is given the time to learn.
    let b = b.drive(Drive::Caller).start().unwrap();
    let a = builder(harness, "a").timing(timing).start().unwrap();
    let context = &mut Context::from_waker(Waker::noop());
    let mut while_b_is_driven = |what: &str, condition: &mut dyn FnMut(&mut Context<'_>) -> bool| {
        let start = Instant::now();
        while !condition(context) {
            b.poll();
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            thread::sleep(Duration::from_micros(100));
        }
    };
    let (mut connecting, mut connected) = (pin!(a.connect_async(&b.addresses()[0])), None);
    while_b_is_driven("connected", &mut |context| {
        if connected.is_none()
            && let Poll::Ready(to_b) = connecting.as_mut().poll(context)
        {
            connected = Some(to_b.unwrap());
        }
        connected.is_some() && b.peers().len() == 1
    });
    let (to_b, to_a) = (connected.unwrap(), b.peers().remove(0));
    let options = StreamOptions::default();
    let mut listener = b.listen_streams("echo", options).unwrap();
    let (mut opening, mut asked) = (Box::pin(to_b.open_stream("echo", options)), None);
    while_b_is_driven("asked for", &mut |context| {
        assert!(opening.as_mut().poll(context).is_pending());
        if let Poll::Ready(incoming) = listener.poll_accept(context) {
            asked = Some(incoming.unwrap());
        }
        asked.is_some()
    });
    drop(opening);
    let accepted = asked.unwrap().accept().expect("b does not know");
    while_b_is_driven("a has read it", &mut |_| is_told(&to_a));
    drop(accepted);
    while_b_is_driven("no handle is left", &mut |_| {
        (handles(&to_b), handles(&to_a)) == (0, 1)
    });
}

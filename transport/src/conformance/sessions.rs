//! Sessions: who is refused, how they end, what becomes of messages when links and peers go.

#![allow(missing_docs)]

use std::thread;
use std::time::{Duration, Instant};

use super::cutting::{Pace, all_arrive_under_cuts, pair_to_cut};
use super::{
    Harness, PATIENCE, Pair, builder, eventually, number, options, pair, pair_with, send_numbered, take,
};
use crate::{Ended, Event, MailboxOptions, Overflow, Reason, ResolveError, SendError, Timing};

pub fn a_wrong_secret_and_another_cluster_are_refused(harness: &dyn Harness) {
    let b = builder(harness, "b").listen(&harness.address()).start().unwrap();
    let events = b.events(8);
    let stranger = builder(harness, "stranger")
        .secret(b"not the conformance suite's secret")
        .start()
        .unwrap();
    assert!(stranger.connect(&b.addresses()[0]).is_err());
    let foreigner = builder(harness, "foreigner")
        .cluster("elsewhere")
        .start()
        .unwrap();
    let error = foreigner.connect(&b.addresses()[0]).unwrap_err().to_string();
    assert!(error.contains("another cluster"), "{error}");
    for _ in 0..2 {
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(event, Event::HandshakeFailed { .. }), "{event:?}");
    }
    assert!(b.peers().is_empty());
}

pub fn a_shutdown_delivers_what_was_sent_before(harness: &dyn Harness) {
    const COUNT: u64 = 2_000;
    let Pair { a, b, to_b } = pair(harness);
    let events = b.events(8);
    let mut inbox = b.mailbox("inbox", options(4_000, Overflow::Wait)).unwrap();
    send_numbered(&to_b.address("inbox").unwrap(), 0..COUNT, |_| 100);
    a.shutdown(PATIENCE);
    for index in 0..COUNT {
        assert_eq!(number(&take(&mut inbox)), index);
    }
    eventually("b knows that the session was closed", || {
        events.try_iter().any(|event| {
            event
                == Event::Ended {
                    node: "a".into(),
                    why: Ended::Closed,
                }
        })
    });
    assert!(matches!(
        to_b.address("inbox"),
        Err(ResolveError::SessionOver(Ended::Closed))
    ));
}

pub fn the_end_of_a_session_is_told_at_once_while_handles_of_it_are_kept(harness: &dyn Harness) {
    // Nothing comes of a silence.
    let timing = Timing {
        heartbeat: Duration::from_secs(600),
        silence: Duration::from_secs(3_600),
        ..Timing::default()
    };
    let Pair { a: _a, b, to_b } = pair_with(harness, |builder| builder.timing(timing));
    let _inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let _address = to_b.address("inbox").unwrap();
    to_b.close(PATIENCE);
    assert_eq!(to_b.ended(), Some(Ended::Closed));
    eventually("b knows that the session was closed", || b.peers().is_empty());
}

pub fn a_peer_that_is_gone_makes_dead_letters_of_what_it_did_not_acknowledge(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_secs(1),
        resume_window: Duration::from_secs(1),
        ..Timing::default()
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.timing(timing));
    let letters = a.dead_letters().subscribe(16);
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    drop((inbox, b));
    let mut sent = 0;
    let start = Instant::now();
    let over = loop {
        match address.try_send(b"into the void") {
            Ok(()) => sent += 1,
            Err(SendError::SessionOver(ended)) => break ended,
            Err(_) => {}
        }
        assert!(start.elapsed() < PATIENCE, "the end was not noticed");
        thread::sleep(Duration::from_millis(20));
    };
    assert_ne!(over, Ended::Violation(String::new()));
    assert_eq!(to_b.ended(), Some(over));
    // Each one is accounted for: returned by the peer as it closed its mailbox, or unacknowledged at the end.
    eventually("every message is a dead letter", || {
        a.dead_letters().count() >= sent
    });
    assert_eq!(a.dead_letters().count(), sent);
    assert!(
        letters
            .try_iter()
            .all(|letter| letter.mailbox == "inbox" && letter.node.as_deref() == Some("b"))
    );
}

pub fn a_link_cut_under_load_loses_doubles_and_reorders_nothing(harness: &dyn Harness) {
    const COUNT: u64 = 100_000;
    if !harness.resumes() {
        let Pair { a: _a, b: _b, to_b } = pair(harness);
        to_b.cut_link();
        eventually("a session that can't go on is over", || {
            matches!(to_b.ended(), Some(Ended::Unresumable(_)))
        });
        return;
    }
    let pair = pair_to_cut(harness);
    let inbox = pair.b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = pair.to_b.address("inbox").unwrap();
    let send = move || send_numbered(&address, 0..COUNT, |index| index as usize % 300);
    let pace = Pace {
        cut_after: Duration::from_millis(10),
        every: 1_000,
        pause: Duration::from_millis(2),
    };
    all_arrive_under_cuts(&pair, inbox, COUNT, pace, send, |message, index| {
        assert_eq!(number(message), index);
    });
}

pub fn an_idle_session_outlives_its_silence_deadline(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(1_500),
        resume_window: Duration::from_millis(1_500),
        ..Timing::default()
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.timing(timing));
    let events = a.events(8);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    thread::sleep(Duration::from_millis(3_000));
    assert_eq!(events.try_iter().collect::<Vec<_>>(), []);
    address.send(b"still here").unwrap();
    assert_eq!(take(&mut inbox), b"still here");
}

pub fn what_is_sent_after_the_end_of_a_session_is_a_dead_letter_of_its_mailbox(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let _inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let mut permit = address.try_reserve(4).unwrap();
    permit.payload().copy_from_slice(b"late");
    to_b.close(Duration::ZERO);
    permit.send();
    let letter = a.dead_letters().latest().pop().expect("a dead letter");
    assert_eq!(
        (letter.mailbox.as_str(), letter.reason),
        ("inbox", Reason::Unacknowledged)
    );
    assert_eq!(letter.payload.as_deref(), Some(&b"late"[..]));
}

//! Sessions: who is refused, how they end, what becomes of messages when links and peers go.

#![allow(missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    Harness, PATIENCE, Pair, builder, eventually, nothing_more, number, options, pair, pair_with,
    send_numbered, take,
};
use crate::{Ended, Event, MailboxOptions, Overflow, ResolveError, SendError, Timing};

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

pub fn a_peer_that_is_gone_makes_dead_letters_of_what_it_did_not_acknowledge(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(300),
        resume_window: Duration::from_millis(300),
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
    // Long enough for either side to hear the other on a slow device: a link that dies before does not count as one.
    const BETWEEN_CUTS: Duration = Duration::from_millis(60);
    let timing = Timing {
        resume_window: PATIENCE,
        ..Timing::default()
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.timing(timing));
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let events = a.events(1_000);
    let done = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicU64::new(0));
    let cutter = thread::spawn({
        let (peer, done, taken) = (to_b.clone(), done.clone(), taken.clone());
        move || {
            let mut at_last_cut = 0;
            while !done.load(Ordering::Relaxed) {
                let now = taken.load(Ordering::Relaxed);
                if now > at_last_cut && peer.link().is_some() {
                    thread::sleep(BETWEEN_CUTS);
                    peer.cut_link();
                    at_last_cut = taken.load(Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let sender = thread::spawn(move || send_numbered(&address, 0..COUNT, |index| index as usize % 300));
    for index in 0..COUNT {
        assert_eq!(number(&take(&mut inbox)), index);
        taken.store(index + 1, Ordering::Relaxed);
        if index % 1_000 == 0 {
            // Long enough for cuts to fall into the run, however fast the link.
            thread::sleep(BETWEEN_CUTS / 10);
        }
    }
    done.store(true, Ordering::Relaxed);
    cutter.join().unwrap();
    sender.join().unwrap();
    nothing_more(&mut inbox);
    let resumed = events
        .try_iter()
        .filter(|event| matches!(event, Event::Resumed { .. }))
        .count();
    assert!(resumed >= 3, "only {resumed} links were cut and replaced");
    assert_eq!(a.dead_letters().count() + b.dead_letters().count(), 0);
}

pub fn an_idle_session_outlives_its_silence_deadline(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(1_000),
        resume_window: Duration::from_millis(1_000),
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

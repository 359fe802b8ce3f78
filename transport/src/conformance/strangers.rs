//! Strangers, silent peers and peers that come back as somebody else.

#![allow(missing_docs)]

use std::time::{Duration, Instant};

use super::{Harness, PATIENCE, builder, eventually, pair, take};
use crate::handshake::{Dialing, Identity, NONCE, Refusal, Secret, Wanted, refuse};
use crate::lane::LaneSizes;
use crate::{Drive, Event, MailboxOptions, SendError, Timing};

pub fn garbage_instead_of_a_handshake_is_refused_and_harms_nobody(harness: &dyn Harness) {
    let b = builder(harness, "b").listen(&harness.address()).start().unwrap();
    let events = b.events(16);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let (_, address) = b.addresses()[0].split_once("://").unwrap();
    let noise: Vec<u8> = (0..4096u32).map(|index| ((index * index) >> 3) as u8).collect();
    // Nothing at all, a byte, text, the longest message; the first byte of every kind of handshake message.
    let mut all: Vec<Vec<u8>> = vec![vec![], vec![0], b"GET / HTTP/1.1\r\n\r\n".to_vec(), noise.clone()];
    all.extend((1..=8).map(|kind| [&[kind], &noise[..100]].concat()));
    for garbage in &all {
        let deadline = Instant::now() + PATIENCE;
        let mut wire = harness.transport().dial(address, deadline).expect("a wire");
        wire.send(garbage, deadline).expect("sent");
        let event = events.recv_timeout(PATIENCE).expect("a word about it");
        assert!(matches!(event, Event::HandshakeFailed { .. }), "{event:?}");
    }
    assert!(b.peers().is_empty());
    let a = builder(harness, "a").start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).expect("b still answers");
    to_b.address("inbox").unwrap().send(b"welcome").unwrap();
    assert_eq!(take(&mut inbox), b"welcome");
}

pub fn a_peer_that_falls_silent_is_noticed_on_an_idle_link(harness: &dyn Harness) {
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_secs(1),
        resume_window: Duration::from_secs(1),
        ..Timing::default()
    };
    let a = builder(harness, "a")
        .timing(timing)
        .listen(&harness.address())
        .start()
        .unwrap();
    let events = a.events(16);
    // Nobody drives b after this.
    let b = builder(harness, "b")
        .timing(timing)
        .drive(Drive::Caller)
        .start()
        .unwrap();
    let to_a = b.connect(&a.addresses()[0]).unwrap();
    let start = Instant::now();
    let node = loop {
        if let Event::Ended { node, .. } = events.recv_timeout(PATIENCE).expect("word of the end") {
            break node;
        }
    };
    assert_eq!(node, "b");
    // A busy machine is late, but not as late as with the times of a node that nobody configured.
    let took = start.elapsed();
    let default = Timing::default();
    assert!(
        took < default.silence + default.resume_window,
        "noticed after {took:?}"
    );
    assert!(a.peers().is_empty());
    drop(to_a);
}

pub fn a_peer_that_was_restarted_is_another_incarnation(harness: &dyn Harness) {
    let start = |address: &str| builder(harness, "b").listen(address).start();
    let b = start(&harness.address()).unwrap();
    let address = b.addresses()[0].clone();
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let a = builder(harness, "a").start().unwrap();
    let before = a.connect(&address).unwrap();
    let old = before.address("inbox").unwrap();
    drop((inbox, b));
    eventually("the first session is over", || before.ended().is_some());
    let asked = Instant::now();
    let b = loop {
        match start(&address) {
            Ok(b) => break b,
            Err(error) => assert!(asked.elapsed() < PATIENCE, "{error}"),
        }
    };
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let after = a.connect(&address).unwrap();
    assert_ne!(after.incarnation(), before.incarnation());
    assert!(matches!(
        old.try_send(b"to the old one"),
        Err(SendError::SessionOver(_))
    ));
    after.address("inbox").unwrap().send(b"to the new one").unwrap();
    assert_eq!(take(&mut inbox), b"to the new one");
}

pub fn the_end_of_one_session_leaves_the_others_alone(harness: &dyn Harness) {
    let first = pair(harness);
    let mut inbox = first.b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let second = builder(harness, "another").start().unwrap();
    let to_b = second.connect(&first.b.addresses()[0]).unwrap();
    drop(second);
    eventually("the second is over", || to_b.ended().is_some());
    first.to_b.address("inbox").unwrap().send(b"still here").unwrap();
    assert_eq!(take(&mut inbox), b"still here");
    drop(first.a);
}

pub fn strangers_who_greet_and_say_no_more_keep_no_member_out(harness: &dyn Harness) {
    // As many as one host may have.
    const STRANGERS: u8 = 32;
    let b = builder(harness, "b").listen(&harness.address()).start().unwrap();
    let (_, address) = b.addresses()[0].split_once("://").unwrap();
    let secret = Secret::new(b"not the secret of the cluster").expect("long enough");
    let identity = Identity {
        cluster: "default".into(),
        node: "stranger".into(),
        incarnation: 1,
        sizes: LaneSizes::default(),
        capabilities: 0,
    };
    let deadline = Instant::now() + PATIENCE;
    let mut strangers: Vec<_> = (0..STRANGERS)
        .map(|number| {
            let mut wire = harness.transport().dial(address, deadline).expect("a wire");
            let (_, hello) = Dialing::start(&secret, &identity, Wanted::New, &[number; NONCE]);
            wire.send(&hello, deadline).expect("sent");
            wire.receive(deadline).expect("a welcome");
            wire
        })
        .collect();
    let a = builder(harness, "a").start().unwrap();
    a.connect(&b.addresses()[0]).expect("a member comes in");
    // On a machine that is held up its own time may be over before.
    if let Ok(word) = strangers[0].receive(deadline) {
        assert_eq!(word, refuse(Refusal::Crowded));
    }
}

pub fn a_node_that_dials_itself_is_its_own_peer(harness: &dyn Harness) {
    let a = builder(harness, "a").listen(&harness.address()).start().unwrap();
    let mut inbox = a.mailbox("inbox", MailboxOptions::default()).unwrap();
    let to_itself = a.connect(&a.addresses()[0]).unwrap();
    assert_eq!(to_itself.node(), "a");
    to_itself.address("inbox").unwrap().send(b"to myself").unwrap();
    assert_eq!(take(&mut inbox), b"to myself");
    eventually("both ends are peers", || a.peers().len() == 2);
    to_itself.close(PATIENCE);
    eventually("both ends are over", || a.peers().is_empty());
}

//! Two processes over TCP, the cable between them cut again and again under load, and a process that is stopped for longer
//! than its sessions wait: an account of every message.
//!
//! `AUDIT_MESSAGES` and `AUDIT_CUTS` make it longer; see the README of this crate for what was found.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, SetWhenDropped};
use tests::numbers::{self, size};
use tests::over::{Over, TIMING};
use tests::process::{OtherProcess, Role};
use tests::proxy::Proxy;
use transport::session::Timing;
use transport::{Event, MailboxOptions, Node, Reason};

/// Cuts of which one is silent: the proxy swallows everything, and only the detector can tell.
const ONE_IN: u64 = 10;
/// Quick to notice, patient enough for a busy machine.
const CUT_AGAIN_AND_AGAIN: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    silence: Duration::from_millis(300),
    resume_window: Duration::from_secs(20),
    better_link: Duration::from_millis(200),
};

/// Quick to notice a process that stands still, and patient with it.
const STANDING_STILL: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    silence: Duration::from_millis(500),
    resume_window: Duration::from_secs(20),
    better_link: Duration::from_millis(200),
};

/// The other process: receives numbers, and tells its address, then what came.
#[test]
fn the_receiving_process() {
    let Some(role) = Role::taken() else { return };
    let (over, timing) = match role.argument().split_once(' ') {
        Some(("cut", scheme)) => (Over::of(scheme), CUT_AGAIN_AND_AGAIN),
        Some(("stand_still", scheme)) => (Over::of(scheme), STANDING_STILL),
        _ => (Over::of(role.argument()), TIMING),
    };
    let node = over
        .builder("receiver")
        .timing(timing)
        .listen(&over.free_address())
        .start()
        .unwrap();
    let mut inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    let events = node.events(1024);
    role.tell(&node.addresses()[0]);
    let is_over = Cell::new(false);
    let received = numbers::receive(&mut inbox, || {
        let ended = events
            .try_iter()
            .any(|event| matches!(event, Event::Ended { .. }));
        is_over.set(is_over.get() || ended);
        is_over.get()
    });
    role.tell(&format!("{} {}", received.count, node.dead_letters().count()));
    // The sender closes the session.
    thread::sleep(PATIENCE);
}

fn resumed(events: &std::sync::mpsc::Receiver<Event>) {
    while !matches!(
        events.recv_timeout(PATIENCE).expect("in time"),
        Event::Resumed { .. }
    ) {}
}

#[test]
fn a_connection_cut_by_resets_and_in_silence_loses_doubles_and_reorders_nothing() {
    let (messages, cuts) = (size("AUDIT_MESSAGES", 200_000), size("AUDIT_CUTS", 30));
    let other = OtherProcess::start("the_receiving_process", "cut tcp");
    let target: SocketAddr = other.told().strip_prefix("tcp://").unwrap().parse().unwrap();
    let proxy = Proxy::start(target).unwrap();
    let node = Over::Tcp
        .builder("sender")
        .timing(CUT_AGAIN_AND_AGAIN)
        .start()
        .unwrap();
    let peer = node.connect(&format!("tcp://{}", proxy.address())).unwrap();
    let (address, events) = (peer.address("inbox").unwrap(), node.events(1024));
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let (mut detected, mut back) = (Vec::new(), Vec::new());
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            numbers::send(&address, 0, |next| {
                next < messages || !done.load(Ordering::Relaxed)
            })
            .unwrap()
        });
        let stops = SetWhenDropped(&done);
        for cut in 1..=cuts {
            thread::sleep(Duration::from_millis(2));
            while events.try_recv().is_ok() {}
            let start = Instant::now();
            if cut % ONE_IN == 0 {
                proxy.silence(true);
                while !matches!(
                    events.recv_timeout(PATIENCE).expect("in time"),
                    Event::Suspended { .. }
                ) {}
                detected.push(start.elapsed());
                // What the silent connection swallowed must not come out of it later.
                proxy.cut();
                proxy.silence(false);
                resumed(&events);
            } else {
                proxy.reset();
                resumed(&events);
                back.push(start.elapsed());
            }
        }
        drop(stops);
        sending.join().unwrap()
    });
    numbers::send_end(&address, sent);
    let received = other.told_within(Duration::from_secs(300));
    let took = start.elapsed();
    assert_eq!(received, format!("{sent} 0"), "received, and dead letters there");
    assert_eq!(node.dead_letters().count(), 0);
    detected.sort();
    back.sort();
    let middle = |times: &[Duration]| {
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        format!(
            "{:.1?} (longest {:.1?})",
            at(times.len() / 2),
            at(times.len().saturating_sub(1))
        )
    };
    println!(
        "{sent} messages in {took:.1?} over {cuts} cuts, each once and in order; back {} after a reset, median; silence of \
         {:?} found after {}, median",
        middle(&back),
        CUT_AGAIN_AND_AGAIN.silence,
        middle(&detected),
    );
    // A busy machine is late, but not as late as with the silence of a node that nobody configured.
    let longest = detected.last().copied().unwrap_or_default();
    assert!(longest < Timing::default().silence, "found after {longest:?}");
}

/// Sends to a process that is stopped in mid-flow until its session is over, then let go on. Whatever was sent and is no
/// dead letter was delivered; what is a dead letter was not acknowledged, and may have been delivered.
fn what_a_stopped_process_does_not_take_is_dead_letters_to_the_last(over: Over) {
    let other = OtherProcess::start("the_receiving_process", over.name());
    let node: Node = over.builder("sender").start().unwrap();
    let letters = node.dead_letters().subscribe(1 << 20);
    let peer = node.connect(&other.told()).unwrap();
    let address = peer.address("inbox").unwrap();
    let sent = numbers::send(&address, 0, |next| next < 20_000);
    let sent = sent.unwrap_or_else(|(sent, error)| {
        panic!("{error} after {sent} messages: {:#?}", node.observer().observe())
    });
    let (sent, error) = thread::scope(|scope| {
        let sending = scope.spawn(|| numbers::send(&address, sent, |_| true).unwrap_err());
        thread::sleep(Duration::from_millis(50));
        other.stop(true);
        let start = Instant::now();
        while peer.ended().is_none() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        // One that is not over would be sent to for ever.
        let in_time = peer.ended().is_some();
        peer.close(Duration::ZERO);
        assert!(in_time, "the session is not over in time");
        sending.join().unwrap()
    });
    other.stop(false);
    println!("{over:?}: {error} after {sent} messages");
    let told = other.told();
    let (delivered, _) = told.split_once(' ').unwrap();
    let delivered: u64 = delivered.parse().unwrap();
    let mut dead = BTreeSet::new();
    for letter in letters.try_iter() {
        assert_eq!(letter.reason, Reason::Unacknowledged);
        assert!(
            dead.insert(numbers::read(letter.payload.as_ref().expect("what it said"))),
            "two letters of one message"
        );
    }
    assert_eq!(node.dead_letters().count(), dead.len() as u64);
    let missing: Vec<u64> = (delivered..sent)
        .filter(|number| !dead.contains(number))
        .collect();
    assert!(
        missing.is_empty(),
        "neither delivered nor dead letters: {missing:?}"
    );
    assert!(
        dead.iter().all(|number| *number < sent),
        "a letter of what was not sent"
    );
    let both = dead.iter().filter(|number| **number < delivered).count() as u64;
    assert_eq!(sent, delivered + dead.len() as u64 - both);
    println!(
        "{sent} sent = {delivered} delivered + {} dead letters - {both} that are both",
        dead.len()
    );
}

/// Sends to a process that is stopped for a while, and to that process again once it goes on.
fn a_process_that_stands_still_for_longer_than_the_silence_loses_nothing(over: Over) {
    let other = OtherProcess::start("the_receiving_process", &format!("stand_still {}", over.name()));
    let node: Node = over.builder("sender").timing(STANDING_STILL).start().unwrap();
    let peer = node.connect(&other.told()).unwrap();
    let address = peer.address("inbox").unwrap();
    let enough = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| numbers::send(&address, 0, |_| !enough.load(Ordering::Relaxed)));
        thread::sleep(Duration::from_millis(50));
        other.stop(true);
        thread::sleep(STANDING_STILL.silence * 3);
        other.stop(false);
        thread::sleep(Duration::from_millis(50));
        enough.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    let sent = sent.unwrap_or_else(|(sent, error)| {
        panic!("{error} after {sent} messages: {:#?}", node.observer().observe())
    });
    peer.close(PATIENCE);
    assert_eq!(other.told(), format!("{sent} 0"));
    assert_eq!(node.dead_letters().count(), 0);
}

tests::over_each_transport! {
    what_a_stopped_process_does_not_take_is_dead_letters_to_the_last,
    a_process_that_stands_still_for_longer_than_the_silence_loses_nothing,
}

//! The suite that every [`Transport`] must pass: hold a transport of your own to it with
//! [`conformance_tests!`](crate::conformance_tests).
//!
//! Each case is a function that panics when the transport fails it. The cases run two nodes in one process over the
//! transport's real links, and check what [`crate::link`] and the README promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::link::Transport;
use crate::{
    Address, Drive, Ended, Event, LaneSizes, Mailbox, MailboxOptions, Node, NodeBuilder, Overflow, Peer,
    Reason, ResolveError, SendError, Timing, Wait,
};

/// What the suite needs to know of a transport.
pub trait Harness: Send + Sync {
    /// A transport, made anew for each node.
    fn transport(&self) -> Arc<dyn Transport>;
    /// An address to listen on that nobody uses, with its scheme: `tcp://127.0.0.1:0`.
    fn address(&self) -> String;
    /// Whether a session outlives its link. Not where both ends of the link live in one memory.
    fn resumes(&self) -> bool {
        true
    }
}

/// A case of the suite.
pub type Case = fn(&dyn Harness);

/// Makes one `#[test]` of every case: `conformance_tests!(MyHarness);`, with attributes for each test if any are
/// given, as in `conformance_tests!(MyHarness, #[ignore = "needs a device"]);`.
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr $(, #[$attribute:meta])*) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] $harness;
            messages_of_every_size_arrive_in_order
            both_directions_at_once_with_small_rings
            several_threads_each_keep_their_order
            correlation_ids_travel_with_their_messages
            a_polling_receiver_is_lent_every_message
            blocking_use_without_a_thread_of_the_nodes_own
            futures_send_and_receive_on_any_executor
            an_unknown_mailbox_is_refused_by_name
            a_message_over_the_limit_is_refused_with_the_limit
            a_full_mailbox_makes_its_sender_wait_until_a_message_is_taken
            a_full_mailbox_fails_its_sender_when_that_is_its_policy
            a_full_mailbox_drops_the_newest_when_that_is_its_policy
            a_full_mailbox_drops_the_oldest_when_that_is_its_policy
            a_full_mailbox_does_not_hold_up_its_neighbours
            a_permit_dropped_gives_its_room_back
            a_closed_mailbox_returns_what_it_did_not_take
            a_wrong_secret_and_another_cluster_are_refused
            a_shutdown_delivers_what_was_sent_before
            a_peer_that_is_gone_makes_dead_letters_of_what_it_did_not_acknowledge
            a_link_cut_under_load_loses_doubles_and_reorders_nothing
            an_idle_session_outlives_its_silence_deadline
            large_messages_arrive_whole_and_between_small_ones_in_order
            a_message_larger_than_every_ring_passes_through_small_rings
            large_messages_for_several_mailboxes_mix
            a_polling_receiver_is_lent_large_messages
            a_large_message_goes_at_once_as_a_whole_or_not_at_all
            a_large_message_given_up_half_way_is_forgotten_and_the_next_arrives
            full_mailboxes_treat_large_messages_as_small_ones
            a_closed_mailbox_returns_the_large_messages_it_did_not_take
            a_peer_that_is_gone_makes_one_dead_letter_of_each_large_message
            large_messages_survive_cuts_of_the_link
            small_messages_pass_a_large_one
        );
    };
    (@each $attributes:tt $harness:expr; $($case:ident)*) => {
        $($crate::conformance_tests!(@one $attributes $harness; $case);)*
    };
    (@one [$(#[$attribute:meta])*] $harness:expr; $case:ident) => {
        #[test]
        $(#[$attribute])*
        fn $case() {
            $crate::conformance::$case(&$harness);
        }
    };
}

mod large;

pub use large::*;

const SECRET: &[u8] = b"the conformance suite's secret";
const PATIENCE: Duration = Duration::from_secs(30);

fn builder(harness: &dyn Harness, name: &str) -> NodeBuilder {
    Node::builder(name).secret(SECRET).transport(harness.transport())
}

/// Two nodes, `a` connected to `b`.
struct Pair {
    a: Node,
    b: Node,
    to_b: Peer,
}

fn pair_with(harness: &dyn Harness, change: impl Fn(NodeBuilder) -> NodeBuilder) -> Pair {
    let b = change(builder(harness, "b").listen(&harness.address()))
        .start()
        .expect("node b starts");
    let a = change(builder(harness, "a")).start().expect("node a starts");
    let to_b = a.connect(&b.addresses()[0]).expect("a connects to b");
    Pair { a, b, to_b }
}

fn pair(harness: &dyn Harness) -> Pair {
    pair_with(harness, |builder| builder)
}

fn options(capacity: u32, overflow: Overflow) -> MailboxOptions {
    MailboxOptions {
        capacity,
        overflow,
        ..MailboxOptions::default()
    }
}

fn take(mailbox: &mut Mailbox) -> Vec<u8> {
    let message = mailbox
        .recv_timeout(PATIENCE)
        .expect("mailbox open")
        .expect("a message in time");
    message.payload.to_vec()
}

fn nothing_more(mailbox: &mut Mailbox) {
    let more = mailbox
        .recv_timeout(Duration::from_millis(50))
        .expect("mailbox open");
    assert!(more.is_none(), "a message too many: {more:?}");
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A message of the given length that tells its number.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[..8].try_into().expect("eight bytes"))
}

/// Sends `count` numbered messages, waiting for room; returns the address.
fn send_numbered(address: &Address, numbers: std::ops::Range<u64>, len: impl Fn(u64) -> usize) {
    for index in numbers {
        address.send(&numbered(index, len(index))).expect("sent");
    }
}

#[allow(missing_docs)]
pub fn messages_of_every_size_arrive_in_order(harness: &dyn Harness) {
    const COUNT: u64 = 5_000;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let len = |index: u64| (index * index % 9_001) as usize;
    let sender = thread::spawn(move || send_numbered(&address, 0..COUNT, len));
    for index in 0..COUNT {
        assert_eq!(take(&mut inbox), numbered(index, len(index)));
    }
    nothing_more(&mut inbox);
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn both_directions_at_once_with_small_rings(harness: &dyn Harness) {
    const COUNT: u64 = 20_000;
    let sizes = LaneSizes {
        control: 4096,
        ordinary: 4096,
        large: 4096,
    };
    let Pair { a, b, to_b } = pair_with(harness, |builder| builder.rings(sizes));
    let mut in_a = a.mailbox("inbox", options(16, Overflow::Wait)).unwrap();
    let mut in_b = b.mailbox("inbox", options(16, Overflow::Wait)).unwrap();
    eventually("b knows a", || b.peers().len() == 1);
    let to_a = b.peers().remove(0);
    let (to_a, to_b) = (to_a.address("inbox").unwrap(), to_b.address("inbox").unwrap());
    thread::scope(|scope| {
        for (address, inbox) in [(to_a, &mut in_a), (to_b, &mut in_b)] {
            scope.spawn(move || send_numbered(&address, 0..COUNT, |index| index as usize % 700));
            scope.spawn(move || {
                for index in 0..COUNT {
                    assert_eq!(number(&take(inbox)), index);
                }
            });
        }
    });
}

#[allow(missing_docs)]
pub fn several_threads_each_keep_their_order(harness: &dyn Harness) {
    const EACH: u64 = 5_000;
    const THREADS: u64 = 4;
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let address = address.clone();
            scope.spawn(move || send_numbered(&address, thread * EACH..(thread + 1) * EACH, |_| 24));
        }
        let mut next: Vec<u64> = (0..THREADS).map(|thread| thread * EACH).collect();
        for _ in 0..THREADS * EACH {
            let index = number(&take(&mut inbox));
            let expected = &mut next[(index / EACH) as usize];
            assert_eq!(index, *expected);
            *expected += 1;
        }
    });
    nothing_more(&mut inbox);
}

#[allow(missing_docs)]
pub fn correlation_ids_travel_with_their_messages(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send_with(b"question", Some(0xfeed)).unwrap();
    address.try_send(b"remark").unwrap();
    let message = inbox.recv().unwrap();
    assert_eq!(
        (message.payload, message.correlation),
        (&b"question"[..], Some(0xfeed))
    );
    assert_eq!(message.peer().expect("from a peer").node(), "a");
    let message = inbox.recv().unwrap();
    assert_eq!((message.payload, message.correlation), (&b"remark"[..], None));
}

#[allow(missing_docs)]
pub fn a_polling_receiver_is_lent_every_message(harness: &dyn Harness) {
    const COUNT: u64 = 20_000;
    let b = builder(harness, "b")
        .drive(Drive::Caller)
        .listen(&harness.address())
        .start()
        .unwrap();
    let mut inbox = b.mailbox("inbox", options(64, Overflow::Wait)).unwrap();
    let mut neighbour = b.mailbox("neighbour", MailboxOptions::default()).unwrap();
    let a = builder(harness, "a").start().unwrap();
    let address = b.addresses()[0].clone();
    let sender = thread::spawn(move || {
        let to_b = a.connect(&address).unwrap();
        to_b.address("neighbour")
            .unwrap()
            .send(b"for somebody else")
            .unwrap();
        send_numbered(&to_b.address("inbox").unwrap(), 0..COUNT, |index| {
            index as usize % 500
        });
        a
    });
    let start = Instant::now();
    let mut next = 0;
    while next < COUNT {
        inbox
            .poll(|message| {
                assert_eq!(number(message.payload), next);
                next += 1;
            })
            .unwrap();
        assert!(start.elapsed() < PATIENCE, "{next} of {COUNT} in time");
    }
    assert_eq!(take(&mut neighbour), b"for somebody else");
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn blocking_use_without_a_thread_of_the_nodes_own(harness: &dyn Harness) {
    for wait in [Wait::default(), Wait::Park] {
        let change = |builder: NodeBuilder| builder.drive(Drive::Caller).wait(wait);
        let b = change(builder(harness, "b").listen(&harness.address()))
            .start()
            .unwrap();
        let mut inbox = b.mailbox("ping", MailboxOptions::default()).unwrap();
        let a = change(builder(harness, "a")).start().unwrap();
        let address = b.addresses()[0].clone();
        let asker = thread::spawn(move || {
            let mut answers = a.mailbox("pong", MailboxOptions::default()).unwrap();
            let ping = a.connect(&address).unwrap().address("ping").unwrap();
            for index in 0..200 {
                ping.send(&numbered(index, 64)).unwrap();
                assert_eq!(number(&take(&mut answers)), index);
            }
        });
        let mut pong: Option<Address> = None;
        for index in 0..200 {
            let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
            let (payload, peer) = (message.payload.to_vec(), message.peer().unwrap());
            assert_eq!(number(&payload), index);
            pong.get_or_insert_with(|| peer.address("pong").unwrap())
                .send(&payload)
                .unwrap();
        }
        // The last answer leaves with its send; nobody needs to drive b any more.
        asker.join().unwrap();
    }
}

/// Runs a future on the calling thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = crate::wait::thread_waker();
    let start = Instant::now();
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut std::task::Context::from_waker(&waker))
        {
            return output;
        }
        assert!(start.elapsed() < PATIENCE, "the future is not ready in time");
        thread::park_timeout(PATIENCE);
    }
}

#[allow(missing_docs)]
pub fn futures_send_and_receive_on_any_executor(harness: &dyn Harness) {
    let b = builder(harness, "b")
        .wait(Wait::Park)
        .listen(&harness.address())
        .start()
        .unwrap();
    let a = builder(harness, "a").wait(Wait::Park).start().unwrap();
    let mut inbox = b.mailbox("inbox", options(4, Overflow::Wait)).unwrap();
    let url = b.addresses()[0].clone();
    let receiver = thread::spawn(move || {
        block_on(async {
            for index in 0..500 {
                assert_eq!(number(inbox.recv_async().await.unwrap().payload), index);
            }
        });
    });
    block_on(async {
        let peer = a.connect_async(&url).await.unwrap();
        let address = peer.address_async("inbox").await.unwrap();
        for index in 0..500u64 {
            if index % 2 == 0 {
                address.send_async(&numbered(index, 16)).await.unwrap();
            } else {
                let mut permit = address.reserve_async(8).await.unwrap();
                permit.payload().copy_from_slice(&index.to_le_bytes());
                permit.send();
            }
        }
    });
    receiver.join().unwrap();
}

#[allow(missing_docs)]
pub fn an_unknown_mailbox_is_refused_by_name(harness: &dyn Harness) {
    let Pair { a: _a, b: _b, to_b } = pair(harness);
    let error = to_b.address("nobody").unwrap_err();
    assert_eq!(
        error,
        ResolveError::NoSuchMailbox {
            node: "b".into(),
            mailbox: "nobody".into()
        }
    );
    assert_eq!(to_b.address("").unwrap_err(), ResolveError::BadName { len: 0 });
}

#[allow(missing_docs)]
pub fn a_message_over_the_limit_is_refused_with_the_limit(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b
        .mailbox(
            "inbox",
            MailboxOptions {
                max_message: 100,
                ..Default::default()
            },
        )
        .unwrap();
    let address = to_b.address("inbox").unwrap();
    assert_eq!(
        address.try_send(&[1; 101]),
        Err(SendError::TooLarge { len: 101, max: 100 })
    );
    address.try_send(&[2; 100]).unwrap();
    address.try_send(&[]).unwrap();
    assert_eq!(take(&mut inbox), [2; 100]);
    assert_eq!(take(&mut inbox), []);
}

#[allow(missing_docs)]
pub fn a_full_mailbox_makes_its_sender_wait_until_a_message_is_taken(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send(b"1").unwrap();
    address.try_send(b"2").unwrap();
    assert_eq!(
        address.try_send(b"3"),
        Err(SendError::MailboxFull {
            mailbox: "inbox".into()
        })
    );
    let patience = Duration::from_millis(30);
    assert_eq!(
        address.send_timeout(b"3", None, patience),
        Err(SendError::TimedOut(patience))
    );
    let waiting = thread::spawn(move || address.send(b"3"));
    thread::sleep(Duration::from_millis(30));
    assert!(!waiting.is_finished(), "the sender did not wait");
    assert_eq!(take(&mut inbox), b"1");
    waiting.join().unwrap().unwrap();
    assert_eq!(take(&mut inbox), b"2");
    assert_eq!(take(&mut inbox), b"3");
}

#[allow(missing_docs)]
pub fn a_full_mailbox_fails_its_sender_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(1, Overflow::Fail)).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.send(b"1").unwrap();
    assert_eq!(
        address.send(b"2"),
        Err(SendError::MailboxFull {
            mailbox: "inbox".into()
        })
    );
    assert_eq!(take(&mut inbox), b"1");
    nothing_more(&mut inbox);
    assert_eq!(a.dead_letters().count(), 0, "the sender was told: no dead letter");
}

#[allow(missing_docs)]
pub fn a_full_mailbox_drops_the_newest_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let letters = a.dead_letters().subscribe(8);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::DropNewest)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for message in [b"1", b"2", b"3"] {
        address.send(message).unwrap();
    }
    assert_eq!(take(&mut inbox), b"1");
    assert_eq!(take(&mut inbox), b"2");
    nothing_more(&mut inbox);
    let letter = letters.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (letter.reason, letter.mailbox.as_str(), letter.len),
        (Reason::DroppedNewest, "inbox", 1)
    );
    assert_eq!(a.dead_letters().count_of(Reason::DroppedNewest), 1);
}

#[allow(missing_docs)]
pub fn a_full_mailbox_drops_the_oldest_when_that_is_its_policy(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(2, Overflow::DropOldest)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for message in [b"1", b"2", b"3", b"4"] {
        address.send(message).unwrap();
    }
    eventually("two were dropped", || {
        b.dead_letters().count_of(Reason::DroppedOldest) == 2
    });
    assert_eq!(take(&mut inbox), b"3");
    assert_eq!(take(&mut inbox), b"4");
    nothing_more(&mut inbox);
}

#[allow(missing_docs)]
pub fn a_full_mailbox_does_not_hold_up_its_neighbours(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let _full = b.mailbox("full", options(4, Overflow::Wait)).unwrap();
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let full = to_b.address("full").unwrap();
    while full.try_send(&[0; 1000]).is_ok() {}
    let address = to_b.address("inbox").unwrap();
    let sender = thread::spawn(move || send_numbered(&address, 0..5_000, |_| 1_000));
    for index in 0..5_000 {
        assert_eq!(number(&take(&mut inbox)), index);
    }
    sender.join().unwrap();
}

#[allow(missing_docs)]
pub fn a_permit_dropped_gives_its_room_back(harness: &dyn Harness) {
    let Pair { a: _a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", options(1, Overflow::Wait)).unwrap();
    let address = to_b.address("inbox").unwrap();
    for _ in 0..10 {
        drop(address.try_reserve(100).unwrap());
    }
    let mut permit = address.try_reserve(4).unwrap();
    permit.payload().copy_from_slice(b"kept");
    permit.send();
    assert!(address.try_reserve(4).is_err());
    assert_eq!(take(&mut inbox), b"kept");
    // A sender that waits for the room is woken when the permit is dropped.
    let permit = loop {
        match address.try_reserve(4) {
            Ok(permit) => break permit,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    };
    let waiting = thread::spawn({
        let address = address.clone();
        move || address.send_timeout(b"kept", None, PATIENCE)
    });
    thread::sleep(Duration::from_millis(50));
    let dropped = Instant::now();
    drop(permit);
    waiting.join().unwrap().unwrap();
    assert!(
        dropped.elapsed() < PATIENCE / 2,
        "the waiting sender was not woken"
    );
    assert_eq!(take(&mut inbox), b"kept");
    nothing_more(&mut inbox);
}

#[allow(missing_docs)]
pub fn a_closed_mailbox_returns_what_it_did_not_take(harness: &dyn Harness) {
    let Pair { a, b, to_b } = pair(harness);
    let letters = a.dead_letters().subscribe(8);
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    address.try_send_with(b"too late", Some(7)).unwrap();
    eventually("the message is there", || inbox.depth() == 1);
    drop(inbox);
    let letter = letters.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (letter.reason, letter.correlation, letter.len),
        (Reason::MailboxClosed, Some(7), 8)
    );
    let closed = SendError::MailboxClosed {
        mailbox: "inbox".into(),
    };
    eventually("the sender knows", || {
        address.try_send(b"later still") == Err(closed.clone())
    });
    assert!(matches!(
        to_b.address("inbox"),
        Err(ResolveError::NoSuchMailbox { .. })
    ));
    // The name can be opened anew, and is then another mailbox.
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    to_b.address("inbox").unwrap().send(b"in time").unwrap();
    assert_eq!(take(&mut inbox), b"in time");
}

#[allow(missing_docs)]
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

#[allow(missing_docs)]
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

#[allow(missing_docs)]
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

#[allow(missing_docs)]
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
    let Pair { a, b, to_b } = pair(harness);
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let events = a.events(1_000);
    let done = Arc::new(AtomicBool::new(false));
    let cutter = thread::spawn({
        let (peer, done) = (to_b.clone(), done.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                if peer.link().is_some() {
                    peer.cut_link();
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let sender = thread::spawn(move || send_numbered(&address, 0..COUNT, |index| index as usize % 300));
    for index in 0..COUNT {
        assert_eq!(number(&take(&mut inbox)), index);
        if index % 1_000 == 0 {
            // Long enough for cuts to fall into the run, however fast the link.
            thread::sleep(Duration::from_millis(2));
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

#[allow(missing_docs)]
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

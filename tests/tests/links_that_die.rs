//! Sessions over TCP links that are cut, fall silent, and come back: nothing lost, doubled or reordered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::proxy::Proxy;
use transport::{Address, Ended, Event, Mailbox, MailboxOptions, Node, Peer, Timing};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"links that die, a shared secret";
const PATIENCE: Duration = Duration::from_secs(60);
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    silence: Duration::from_millis(600),
    resume_window: Duration::from_secs(5),
    better_link: Duration::from_millis(100),
};

fn node(name: &str, listen: usize) -> Node {
    let builder = Node::builder(name)
        .secret(SECRET)
        .transport(Tcp::new())
        .timing(TIMING);
    (0..listen)
        .fold(builder, |builder, _| builder.listen("tcp://127.0.0.1:0"))
        .start()
        .unwrap()
}

fn proxy_to(address: &str) -> Proxy {
    let target: SocketAddr = address.strip_prefix("tcp://").unwrap().parse().unwrap();
    Proxy::start(target).unwrap()
}

fn url(proxy: &Proxy) -> String {
    format!("tcp://{}", proxy.address())
}

/// Sends numbers until told to stop; returns how many.
fn keep_sending(address: Address, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut next = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let mut message = vec![0; 8 + next as usize % 200];
            message[..8].copy_from_slice(&next.to_le_bytes());
            address.send(&message).unwrap();
            next += 1;
        }
        next
    })
}

/// Takes numbers in order until told how many there were.
fn keep_checking(mut inbox: Mailbox, total: std::sync::mpsc::Receiver<u64>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut next = 0u64;
        let mut last = None;
        let start = Instant::now();
        while last != Some(next) {
            last = last.or_else(|| total.try_recv().ok());
            if let Some(message) = inbox.recv_timeout(Duration::from_millis(50)).unwrap() {
                assert_eq!(
                    u64::from_le_bytes(message.payload[..8].try_into().unwrap()),
                    next,
                    "out of order"
                );
                next += 1;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{next} messages in time, {last:?} sent"
            );
        }
        assert!(
            inbox.recv_timeout(Duration::from_millis(100)).unwrap().is_none(),
            "a message too many"
        );
    })
}

/// Runs `drill` while numbers flow from `a` to `b`, then checks that each arrived once and in order.
fn audited(b: &Node, to_b: &Peer, drill: impl FnOnce()) -> u64 {
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let (tell, total) = std::sync::mpsc::channel();
    let checking = keep_checking(inbox, total);
    let stop = Arc::new(AtomicBool::new(false));
    let sending = keep_sending(address, stop.clone());
    drill();
    stop.store(true, Ordering::Relaxed);
    let sent = sending.join().unwrap();
    tell.send(sent).unwrap();
    checking.join().unwrap();
    sent
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_connection_cut_again_and_again_under_load_loses_nothing() {
    let (a, b) = (node("a", 0), node("b", 1));
    let proxy = proxy_to(&b.addresses()[0]);
    let to_b = a.connect(&url(&proxy)).unwrap();
    let sent = audited(&b, &to_b, || {
        for round in 1..=50 {
            proxy.cut();
            eventually("a new connection", || proxy.accepted() > round);
            eventually("the session goes on", || to_b.link().is_some());
        }
    });
    assert!(sent > 1_000, "only {sent} messages were under way");
    assert_eq!(a.dead_letters().count() + b.dead_letters().count(), 0);
}

#[test]
fn a_connection_that_falls_silent_is_given_up_at_the_deadline_and_the_session_goes_on() {
    let (a, b) = (node("a", 0), node("b", 1));
    let proxy = proxy_to(&b.addresses()[0]);
    let to_b = a.connect(&url(&proxy)).unwrap();
    let events = a.events(16);
    audited(&b, &to_b, || {
        proxy.silence(true);
        let start = Instant::now();
        let noticed = events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(noticed, Event::Suspended { .. }), "{noticed:?}");
        let took = start.elapsed();
        assert!(
            took >= TIMING.silence - TIMING.heartbeat && took < TIMING.silence * 3,
            "noticed after {took:?}"
        );
        // What the silent connection swallowed must not come out of it later.
        proxy.cut();
        proxy.silence(false);
        eventually("the session goes on", || to_b.link().is_some());
    });
}

#[test]
fn a_session_moves_to_its_other_address_and_returns_when_the_better_one_is_back() {
    let (a, b) = (node("a", 0), node("b", 2));
    let events = a.events(64);
    let (better, lesser) = (proxy_to(&b.addresses()[0]), proxy_to(&b.addresses()[1]));
    let to_b = a.connect_any(&[url(&better), url(&lesser)]).unwrap();
    audited(&b, &to_b, || {
        for round in 1..=3 {
            better.refuse(true);
            better.cut();
            resumed(&events);
            assert!(
                lesser.accepted() >= round,
                "the session goes on over the lesser link"
            );
            let before = better.accepted();
            better.refuse(false);
            resumed(&events);
            assert!(
                better.accepted() > before,
                "the session is back on the better link"
            );
        }
    });
}

fn resumed(events: &std::sync::mpsc::Receiver<Event>) {
    while !matches!(events.recv_timeout(PATIENCE).unwrap(), Event::Resumed { .. }) {}
}

#[test]
fn a_node_restarted_at_the_same_address_is_another_incarnation_and_never_the_old_session() {
    let a = node("a", 0);
    let b = node("b", 1);
    let address = b.addresses()[0].clone();
    let to_b = a.connect(&address).unwrap();
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    to_b.address("inbox")
        .unwrap()
        .send(b"for the first incarnation")
        .unwrap();
    let first = to_b.incarnation();
    drop((inbox, b));
    let again = Node::builder("b")
        .secret(SECRET)
        .transport(Tcp::new())
        .timing(TIMING)
        .listen(&address)
        .start()
        .unwrap();
    let _inbox = again.mailbox("inbox", MailboxOptions::default()).unwrap();
    eventually("the old session is over", || to_b.ended().is_some());
    assert!(
        matches!(to_b.ended(), Some(Ended::Forgotten | Ended::Closed)),
        "{:?}",
        to_b.ended()
    );
    let to_b = a.connect(&address).unwrap();
    assert_ne!(to_b.incarnation(), first);
    to_b.address("inbox").unwrap().send(b"for the second").unwrap();
}

//! Whoever waits is told, however awkward the moment at which the news comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tests::hub::Hub;
use tests::proxy::Proxy;
use transport::link::{Listener, Transport, TransportError, Wire};
use transport::{
    AskError, Drive, Ended, Event, MailboxClosed, MailboxOptions, Node, NodeBuilder, Overflow, ResolveError,
    Timing, Wait,
};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"nobody waits in vain, a shared secret";
const PATIENCE: Duration = Duration::from_secs(30);

/// Times that play no part in a test.
const ENDLESS: Timing = Timing {
    heartbeat: Duration::from_secs(600),
    silence: Duration::from_secs(3600),
    resume_window: Duration::from_secs(3600),
    better_link: Duration::from_secs(3600),
};

fn node(name: &str) -> NodeBuilder {
    Node::builder(name).secret(SECRET).transport(Tcp::new())
}

fn proxy_of(node: &Node) -> (Proxy, String) {
    let target = node.addresses()[0].trim_start_matches("tcp://").parse().unwrap();
    let proxy = Proxy::start(target).unwrap();
    let address = format!("tcp://{}", proxy.address());
    (proxy, address)
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_ready<F: Future>(future: F) -> bool {
    let future = std::pin::pin!(future);
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_session_that_has_lost_control_messages_while_it_had_no_link_ends() {
    let timing = Timing {
        resume_window: 4 * PATIENCE,
        ..Timing::default()
    };
    let b = node("b")
        .listen("tcp://127.0.0.1:0")
        .timing(timing)
        .start()
        .unwrap();
    let (proxy, address) = proxy_of(&b);
    let a = node("a").timing(timing).start().unwrap();
    let peer = a.connect(&address).unwrap();
    proxy.refuse(true);
    proxy.cut();
    eventually("the link is gone", || peer.link().is_none());
    // More than may wait for room.
    for number in 0..70_000 {
        is_ready(peer.address_async(&format!("mailbox {number}")));
    }
    let last = peer.address_async("the last");
    proxy.refuse(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let resolved = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, last).await })
        .expect("whoever waits is told");
    assert!(
        matches!(resolved, Err(ResolveError::SessionOver(Ended::Violation(_)))),
        "{resolved:?}"
    );
}

#[test]
fn the_end_of_a_mailbox_is_told_at_once_by_a_node_whose_peers_are_many_and_quiet() {
    let Hub {
        addresses,
        peers,
        inbox,
        node: _hub,
    } = Hub::with_peers(10, |name| node(name).timing(ENDLESS));
    let mut watcher = peers[0].mailbox("watcher", MailboxOptions::default()).unwrap();
    watcher.watch(&addresses[0], |_| b"gone".to_vec());
    addresses[0].send(b"not taken").unwrap();
    eventually("the message is there", || inbox.depth() == 1);
    // The node falls asleep.
    thread::sleep(Duration::from_millis(300));
    drop(inbox);
    let notice = watcher.recv_timeout(PATIENCE).unwrap().expect("told in time");
    assert_eq!(notice.payload, b"gone");
    assert_eq!(peers[0].dead_letters().count(), 1);
}

/// TCP, in a process that has no descriptor left when somebody is to be accepted for the first time.
struct OutOfDescriptors(Tcp);

struct Accepting(Box<dyn Listener>, Arc<AtomicBool>);

impl Transport for OutOfDescriptors {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        let failed = Arc::new(AtomicBool::new(false));
        Ok(Box::new(Accepting(self.0.listen(address)?, failed)))
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        self.0.dial(address, deadline)
    }
}

impl Listener for Accepting {
    fn address(&self) -> String {
        self.0.address()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        let descriptor = self.0.descriptor();
        let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        let now = Timespec::default();
        let dialled = poll(&mut descriptors, Some(&now)).unwrap() > 0;
        if dialled && !self.1.swap(true, Ordering::SeqCst) {
            return Err(TransportError::Io {
                context: "accepting".into(),
                source: rustix::io::Errno::MFILE.into(),
            });
        }
        self.0.accept()
    }

    fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.descriptor()
    }
}

#[test]
fn whoever_dials_a_process_that_has_no_descriptor_left_is_accepted_when_it_has() {
    let b = Node::builder("b")
        .secret(SECRET)
        .transport(OutOfDescriptors(Tcp::new()))
        .wait(Wait::Park)
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let a = node("a").start().unwrap();
    a.connect(&b.addresses()[0]).unwrap();
}

/// A node that has dialled another, of which nothing has come yet, for somebody who waits no longer.
struct GivenUp {
    a: Node,
    b: Node,
    events: Receiver<Event>,
    proxy: Proxy,
}

impl GivenUp {
    fn amid_its_handshake() -> GivenUp {
        let b = node("b")
            .listen("tcp://127.0.0.1:0")
            .timing(ENDLESS)
            .start()
            .unwrap();
        let events = b.events(16);
        let (proxy, address) = proxy_of(&b);
        proxy.silence(true);
        let a = node("a").timing(ENDLESS).start().unwrap();
        assert!(!is_ready(a.connect_async(&address)));
        eventually("a dials", || proxy.accepted() == 1);
        GivenUp { a, b, events, proxy }
    }
}

#[test]
fn a_session_that_is_made_as_its_node_is_closed_is_closed_with_it() {
    let GivenUp {
        b: _b,
        events,
        proxy,
        a,
    } = GivenUp::amid_its_handshake();
    drop(a);
    proxy.silence(false);
    // The handshake goes on beside whoever began it.
    loop {
        match events
            .recv_timeout(PATIENCE)
            .expect("the link of a closed node is closed")
        {
            Event::Suspended { .. } | Event::Ended { .. } | Event::HandshakeFailed { .. } => break,
            _ => {}
        }
    }
}

#[test]
fn a_session_that_is_made_when_nobody_waits_for_it_any_more_is_closed() {
    let GivenUp {
        b: _b,
        events,
        proxy,
        a,
    } = GivenUp::amid_its_handshake();
    proxy.silence(false);
    loop {
        match events.recv_timeout(PATIENCE).expect("the session ends") {
            Event::Ended { .. } => break,
            Event::HandshakeFailed { .. } => panic!("nothing was made"),
            _ => {}
        }
    }
    eventually("a keeps no session", || a.peers().is_empty());
}

#[test]
fn the_peers_of_a_node_that_is_dropped_are_told() {
    let b = node("b")
        .listen("tcp://127.0.0.1:0")
        .timing(ENDLESS)
        .start()
        .unwrap();
    let a = node("a").timing(ENDLESS).start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    eventually("b has a session", || b.peers().len() == 1);
    let to_a = b.peers().remove(0);
    drop(a);
    assert_eq!(to_b.ended(), Some(Ended::Closed));
    eventually("b is told", || to_a.ended().is_some());
    assert_eq!(to_a.ended(), Some(Ended::Closed));
}

#[test]
fn a_node_that_is_dropped_where_a_notice_of_its_own_is_made_is_closed() {
    let b = node("b")
        .listen("tcp://127.0.0.1:0")
        .timing(ENDLESS)
        .start()
        .unwrap();
    let watched = b.mailbox("watched", MailboxOptions::default()).unwrap();
    let events = b.events(16);
    let a = node("a").timing(ENDLESS).start().unwrap();
    let peer = a.connect(&b.addresses()[0]).unwrap();
    let watcher = a.mailbox("watcher", MailboxOptions::default()).unwrap();
    watcher.watch(&peer.address("watched").unwrap(), move |_| {
        drop(a);
        Vec::new()
    });
    drop(watched);
    eventually("the session is over", || peer.ended() == Some(Ended::Closed));
    while !matches!(
        events.recv_timeout(PATIENCE).expect("the peer is told"),
        Event::Ended {
            why: Ended::Closed,
            ..
        }
    ) {}
}

#[test]
fn a_name_may_have_any_character() {
    for name in ["\0", "a\nb", "\u{1f980}"] {
        let b = node(name).listen("tcp://127.0.0.1:0").start().unwrap();
        let mut mailbox = b.mailbox(name, MailboxOptions::default()).unwrap();
        let a = node("a").start().unwrap();
        let peer = a.connect(&b.addresses()[0]).unwrap();
        assert_eq!(peer.node(), name);
        peer.address(name).unwrap().send(b"here").unwrap();
        assert_eq!(mailbox.recv_timeout(PATIENCE).unwrap().unwrap().payload, b"here");
    }
}

#[test]
fn whoever_asks_a_mailbox_of_the_own_node_learns_that_it_dropped_the_question() {
    let a = node("a").start().unwrap();
    let options = MailboxOptions {
        capacity: 1,
        overflow: Overflow::DropOldest,
        ..MailboxOptions::default()
    };
    let _mailbox = a.mailbox("mailbox", options).unwrap();
    let address = a.address("mailbox").unwrap();
    let mut asking = std::pin::pin!(address.ask_async(b"the oldest", 4 * PATIENCE));
    assert!(!is_ready(asking.as_mut()));
    address.send(b"newer").unwrap();
    eventually("the question is dropped", || a.dead_letters().count() == 1);
    let answered = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(answered, Poll::Ready(Err(AskError::NotTaken)));
}

#[test]
fn the_port_of_a_node_that_was_dropped_while_a_thread_drove_it_is_free() {
    let b = node("b").listen("tcp://127.0.0.1:0").drive(Drive::Caller);
    let b = b.start().unwrap();
    let address = b.addresses()[0].clone();
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let driving = thread::spawn(move || {
        let closed = inbox.recv_timeout(PATIENCE).map(drop);
        (closed, inbox)
    });
    let a = node("a").start().unwrap();
    let peer = a.connect(&address).expect("somebody drives b");
    drop(b);
    let (closed, inbox) = driving.join().unwrap();
    assert_eq!(closed, Err(MailboxClosed));
    // Neither the mailbox nor the peer keeps it.
    node("next").listen(&address).start().expect("the port is free");
    drop((inbox, peer));
}

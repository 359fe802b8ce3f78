//! A process that is killed, as whoever has a session with it sees it: its host refuses connections, and that ends the session
//! long before its resume window. What only looks like it does not.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, eventually, resumed};
use tests::over::Over;
use tests::process::{OtherProcess, Role};
use transport::link::{Listener, Transport, TransportError, Wire};
use transport::{Ended, Event, MailboxOptions, Node, NodeBuilder, Peer, Reason, Timing};
use transport_tcp::Tcp;

const MESSAGES: usize = 100;

fn builder(over: Over, name: &str, silence: Duration, resume_window: Duration) -> NodeBuilder {
    over.builder(name).timing(Timing {
        heartbeat: silence / 6,
        silence,
        resume_window,
        better_link: Duration::from_millis(200),
    })
}

/// A node that notices silence as late as everybody else, and waits for links for longer than any test.
fn patient(over: Over, name: &str) -> NodeBuilder {
    builder(over, name, Timing::default().silence, PATIENCE)
}

/// The other process: listens at its first address, tells where, and dials the second, if there is one.
#[test]
fn the_other_process() {
    let Some(role) = Role::taken() else { return };
    let (listen, dial) = role.argument().split_once(' ').unwrap_or((role.argument(), ""));
    let node = patient(Over::of(listen), "other").listen(listen).start().unwrap();
    let _inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    if !dial.is_empty() {
        node.connect(dial).unwrap();
    }
    role.tell(&node.addresses()[0]);
    thread::sleep(PATIENCE);
}

fn start(over: Over) -> (OtherProcess, String) {
    start_at(&over.free_address())
}

fn start_at(argument: &str) -> (OtherProcess, String) {
    let other = OtherProcess::start("the_other_process", argument);
    let address = other.told();
    (other, address)
}

fn ended(peer: &Peer) -> Ended {
    eventually("the session is over", || peer.ended().is_some());
    peer.ended().unwrap()
}

fn told_of_the_end(events: &Receiver<Event>) -> Ended {
    loop {
        if let Event::Ended { why, .. } = events.recv_timeout(PATIENCE).expect("in time") {
            return why;
        }
    }
}

/// Kills a process that has not taken what was sent to it last; when its session is over, and how.
fn kill_what_is_owed_messages(other: &mut OtherProcess, node: &Node, peer: &Peer) -> (Duration, Ended) {
    let letters = node.dead_letters().subscribe(2 * MESSAGES);
    let inbox = peer.address("inbox").unwrap();
    inbox.send(b"taken").unwrap();
    eventually("it is acknowledged", || {
        let lane = &node.observer().observe().unwrap().peers[0].lanes[1];
        lane.sent > 0 && lane.acknowledged == lane.sent
    });
    let events = node.events(64);
    other.stop(true);
    for number in 0..MESSAGES {
        inbox.send(&number.to_le_bytes()).unwrap();
    }
    let killed = Instant::now();
    other.kill();
    let why = told_of_the_end(&events);
    let took = killed.elapsed();
    let numbers: Vec<usize> = letters
        .try_iter()
        .map(|letter| {
            assert_eq!(letter.reason, Reason::Unacknowledged);
            usize::from_le_bytes(letter.payload.expect("what it said")[..].try_into().unwrap())
        })
        .collect();
    assert_eq!(
        numbers,
        (0..MESSAGES).collect::<Vec<_>>(),
        "each a dead letter, once"
    );
    (took, why)
}

fn gone_is_known_when_the_host_has_refused_for_long_enough(over: Over, dial: impl Fn(&str) -> String) {
    let window = Duration::from_millis(500);
    let (mut other, address) = start(over);
    let node = patient(over, "here")
        .refused_window(Some(window))
        .start()
        .unwrap();
    let peer = node.connect(&dial(&address)).unwrap();
    let (took, why) = kill_what_is_owed_messages(&mut other, &node, &peer);
    println!("{why}; {took:?} after the kill");
    let Ended::Gone {
        address: refused_at,
        refused,
    } = why
    else {
        panic!("{why}");
    };
    assert_eq!(refused_at, address);
    assert!(window <= refused && refused <= took, "{refused:?} of {took:?}");
    // A busy machine is late, but not as late as the silence of a node that nobody configured, far less a resume window.
    assert!(took < window + Timing::default().silence, "{took:?}");
}

#[test]
fn a_killed_process_is_known_to_be_gone_when_its_host_has_refused_for_long_enough() {
    gone_is_known_when_the_host_has_refused_for_long_enough(Over::Tcp, str::to_owned);
}

#[test]
fn so_is_one_that_was_dialled_by_name() {
    gone_is_known_when_the_host_has_refused_for_long_enough(Over::Tcp, |address| {
        address.replace("127.0.0.1", "localhost")
    });
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn so_is_one_over_rdma() {
    gone_is_known_when_the_host_has_refused_for_long_enough(Over::Rdma, str::to_owned);
}

#[test]
fn over_shared_memory_a_killed_process_is_known_at_once() {
    let (mut other, address) = start(Over::Shm);
    let node = patient(Over::Shm, "here").refused_window(None).start().unwrap();
    let peer = node.connect(&address).unwrap();
    let (took, why) = kill_what_is_owed_messages(&mut other, &node, &peer);
    println!("{why}; {took:?} after the kill");
    assert!(matches!(why, Ended::Unresumable(_)), "{why}");
    assert!(took < Timing::default().silence, "{took:?}");
}

#[test]
fn without_a_refused_window_the_session_waits_for_its_resume_window() {
    let resume_window = Duration::from_secs(2);
    let (mut other, address) = start(Over::Tcp);
    let node = builder(Over::Tcp, "here", Duration::from_secs(3), resume_window);
    let node = node.refused_window(None).start().unwrap();
    let peer = node.connect(&address).unwrap();
    let (took, why) = kill_what_is_owed_messages(&mut other, &node, &peer);
    assert!(matches!(why, Ended::ResumeWindow(_)), "{why}");
    assert!(took >= resume_window, "{took:?}");
}

/// A process is killed, its host refuses for a while that is too short, and then `takes_its_place` is where it listened.
fn what_is_no_refusal_ends_no_session<T>(takes_its_place: impl FnOnce(SocketAddr) -> T) {
    let (refused_window, resume_window) = (Duration::from_millis(1_500), Duration::from_secs(5));
    let (mut other, address) = start(Over::Tcp);
    let node = builder(Over::Tcp, "here", Duration::from_secs(3), resume_window);
    let node = node.refused_window(Some(refused_window)).start().unwrap();
    let peer = node.connect(&address).unwrap();
    let events = node.events(64);
    let killed = Instant::now();
    other.kill();
    thread::sleep(Duration::from_millis(200));
    let place = takes_its_place(address.strip_prefix("tcp://").unwrap().parse().unwrap());
    assert!(killed.elapsed() < refused_window, "too late to try anything");
    let why = told_of_the_end(&events);
    assert!(matches!(why, Ended::ResumeWindow(_)), "{why}");
    assert!(killed.elapsed() >= resume_window);
    assert_eq!(ended(&peer), why);
    drop(place);
}

#[test]
fn a_host_that_swallows_what_it_is_sent_does_not_refuse() {
    what_is_no_refusal_ends_no_session(|address| {
        let listener = TcpListener::bind(address).unwrap();
        // With one connection that nobody takes its queue is full: the system drops what comes then.
        rustix::net::listen(&listener, 0).unwrap();
        let first = TcpStream::connect(address).unwrap();
        let second = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        println!("{second:?}");
        (listener, first)
    });
}

/// Listens, and resets each connection, when it `hears` something or at once.
fn reset_all_connections(address: SocketAddr, hears: bool) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if hears {
                let _ = stream.read(&mut [0; 16]);
            }
            let _ = rustix::net::connect_unspec(&stream);
        }
    });
}

#[test]
fn a_host_that_resets_connections_at_once_does_not_refuse() {
    what_is_no_refusal_ends_no_session(|address| reset_all_connections(address, false));
}

#[test]
fn a_host_that_hears_what_it_is_told_and_then_resets_the_connection_does_not_refuse() {
    what_is_no_refusal_ends_no_session(|address| reset_all_connections(address, true));
}

#[test]
fn a_process_that_stands_still_is_not_gone() {
    let silence = Duration::from_millis(500);
    let (other, address) = start(Over::Tcp);
    let node = builder(Over::Tcp, "here", silence, PATIENCE);
    let node = node
        .refused_window(Some(Duration::from_millis(1)))
        .start()
        .unwrap();
    let peer = node.connect(&address).unwrap();
    let inbox = peer.address("inbox").unwrap();
    let events = node.events(64);
    other.stop(true);
    eventually("the link is given up", || peer.link().is_none());
    thread::sleep(2 * silence);
    assert_eq!(peer.ended(), None);
    other.stop(false);
    resumed(&events);
    inbox.send(b"as before").unwrap();
    assert_eq!(peer.ended(), None);
}

#[test]
fn a_process_that_is_started_again_says_at_once_that_it_does_not_know_the_session() {
    let (mut other, address) = start(Over::Tcp);
    let node = patient(Over::Tcp, "here")
        .refused_window(Some(PATIENCE))
        .start()
        .unwrap();
    let peer = node.connect(&address).unwrap();
    other.kill();
    let (_other, again) = start_at(&address);
    assert_eq!(again, address);
    let started = Instant::now();
    assert_eq!(ended(&peer), Ended::Forgotten);
    assert!(started.elapsed() < Timing::default().silence);
    let successor = node.connect(&address).unwrap();
    assert_ne!(successor.incarnation(), peer.incarnation());
    successor.address("inbox").unwrap().send(b"to the next").unwrap();
}

/// Sessions that the other process dialled: this node has no address at which to look.
fn dialled_from_there(node: &Node) -> (OtherProcess, String, Peer) {
    let argument = format!("{} {}", Over::Tcp.free_address(), node.addresses()[0]);
    let (other, address) = start_at(&argument);
    eventually("its session", || !node.peers().is_empty());
    (other, address, node.peers()[0].clone())
}

#[test]
fn a_session_that_was_accepted_waits_for_its_resume_window() {
    let resume_window = Duration::from_secs(2);
    let node = builder(Over::Tcp, "here", Duration::from_secs(3), resume_window);
    let node = node.refused_window(Some(Duration::from_millis(1)));
    let node = node.listen("tcp://127.0.0.1:0").start().unwrap();
    let (mut other, _, accepted) = dialled_from_there(&node);
    let killed = Instant::now();
    other.kill();
    let why = ended(&accepted);
    assert!(matches!(why, Ended::ResumeWindow(_)), "{why}");
    assert!(killed.elapsed() >= resume_window);
}

#[test]
fn a_session_that_was_accepted_ends_with_one_that_was_dialled() {
    let node = patient(Over::Tcp, "here").refused_window(Some(Duration::from_millis(300)));
    let node = node.listen("tcp://127.0.0.1:0").start().unwrap();
    let (mut other, address, accepted) = dialled_from_there(&node);
    let dialled = node.connect(&address).unwrap();
    other.kill();
    let why = ended(&accepted);
    assert!(matches!(why, Ended::Gone { .. }), "{why}");
    assert_eq!(ended(&dialled), why);
}

/// TCP behind a firewall that refuses in the name of the host that is dialled.
struct Firewalled(Tcp, Arc<AtomicBool>);

impl Transport for Firewalled {
    fn scheme(&self) -> &'static str {
        self.0.scheme()
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        self.0.listen(address)
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(TransportError::Unreachable {
                address: address.to_owned(),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            });
        }
        self.0.dial(address, deadline)
    }
}

#[test]
fn a_process_that_is_heard_over_another_session_is_not_gone_whoever_refuses_in_its_name() {
    let window = Duration::from_millis(200);
    let refuses = Arc::new(AtomicBool::new(false));
    let timing = Timing {
        resume_window: PATIENCE,
        ..Timing::default()
    };
    let start = |name, transport: Arc<dyn Transport>| {
        let node = Node::builder(name).secret(b"of nodes beside a firewall");
        let node = node.transport(transport).timing(timing);
        let node = node.refused_window(Some(window));
        node.listen("tcp://127.0.0.1:0").start().unwrap()
    };
    let here = start("here", Arc::new(Firewalled(Tcp::new(), refuses.clone())));
    let there = start("there", Arc::new(Tcp::new()));
    let from_there = there.connect(&here.addresses()[0]).unwrap();
    let dialled = here.connect(&there.addresses()[0]).unwrap();
    refuses.store(true, Ordering::SeqCst);
    dialled.cut_link();
    eventually("the link is cut", || dialled.link().is_none());
    thread::sleep(5 * window);
    assert_eq!(dialled.ended(), None);
    refuses.store(false, Ordering::SeqCst);
    eventually("it has a link again", || dialled.link().is_some());
    // Where nothing else is heard of it, the same refusals count.
    from_there.close(PATIENCE);
    eventually("one session is over", || here.peers().len() == 1);
    refuses.store(true, Ordering::SeqCst);
    dialled.cut_link();
    assert!(matches!(ended(&dialled), Ended::Gone { .. }));
}

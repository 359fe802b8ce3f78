//! Sessions over TCP links that are cut, fall silent, and come back: nothing lost, doubled or reordered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, audited, eventually, resumed};
use tests::proxy::Proxy;
use transport::{Ended, Event, MailboxOptions, Node, Timing};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"links that die, a shared secret";
/// No link is taken for dead that nobody has cut, on a machine that holds its nodes up for a while either.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    silence: Duration::from_secs(5),
    resume_window: Duration::from_secs(10),
    better_link: Duration::from_millis(100),
};

fn node(name: &str, listen: usize) -> Node {
    node_with(name, listen, TIMING)
}

fn node_with(name: &str, listen: usize, timing: Timing) -> Node {
    let builder = Node::builder(name)
        .secret(SECRET)
        .transport(Tcp::new())
        .timing(timing);
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
fn links_that_carry_something_keep_a_session_however_soon_they_die() {
    // A node with such times looks at its clock more rarely than its links die.
    let timing = Timing {
        heartbeat: Duration::from_secs(10),
        silence: Duration::from_secs(30),
        resume_window: Duration::from_secs(2),
        better_link: Duration::from_millis(100),
    };
    let node = |name| {
        Node::builder(name)
            .secret(SECRET)
            .transport(Tcp::new())
            .timing(timing)
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start().unwrap();
    let a = node("a").start().unwrap();
    let (events, mut in_a) = (
        a.events(64),
        a.mailbox("inbox", MailboxOptions::default()).unwrap(),
    );
    let mut in_b = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let there = to_b.address("inbox").unwrap();
    let back = b.peers()[0].address("inbox").unwrap();
    let start = Instant::now();
    let mut cuts = 0u32;
    while start.elapsed() < timing.resume_window * 5 / 2 {
        // Either side hears the other.
        for (to, inbox) in [(&there, &mut in_b), (&back, &mut in_a)] {
            to.send(&cuts.to_le_bytes()).unwrap();
            let message = inbox.recv_timeout(PATIENCE).unwrap().expect("in time");
            assert_eq!(message.payload, cuts.to_le_bytes());
        }
        to_b.cut_link();
        resumed(&events);
        cuts += 1;
    }
    println!("{cuts} links cut");
    assert_eq!((to_b.ended(), b.peers().len()), (None, 1));
}

#[test]
fn a_connection_that_falls_silent_is_given_up_at_the_deadline_and_the_session_goes_on() {
    let timing = Timing {
        silence: Duration::from_millis(600),
        ..TIMING
    };
    let (a, b) = (node_with("a", 0, timing), node_with("b", 1, timing));
    let proxy = proxy_to(&b.addresses()[0]);
    let to_b = a.connect(&url(&proxy)).unwrap();
    let events = a.events(16);
    audited(&b, &to_b, || {
        while events.try_recv().is_ok() {}
        proxy.silence(true);
        let start = Instant::now();
        let noticed = events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(noticed, Event::Suspended { .. }), "{noticed:?}");
        let took = start.elapsed();
        println!("silence of {:?} noticed after {took:?}", timing.silence);
        // A busy machine is late, but not as late as with the silence of a node that nobody configured.
        assert!(took < Timing::default().silence, "noticed after {took:?}");
        // What the silent connection swallowed must not come out of it later.
        proxy.cut();
        proxy.silence(false);
        eventually("the session goes on", || to_b.link().is_some());
    });
}

#[test]
fn a_proxy_whose_process_is_gone_is_not_the_peer_however_long_it_takes_to_come_back() {
    let refused_window = Duration::from_millis(100);
    let b = node("b", 1);
    let a = Node::builder("a")
        .secret(SECRET)
        .transport(Tcp::new())
        .timing(TIMING)
        .refused_window(Some(refused_window))
        .start()
        .unwrap();
    let proxy = proxy_to(&b.addresses()[0]);
    let to_b = a.connect(&url(&proxy)).unwrap();
    let events = a.events(16);
    audited(&b, &to_b, || {
        for _ in 0..2 {
            proxy.stop_listening();
            proxy.cut();
            eventually("the link is lost", || to_b.link().is_none());
            std::thread::sleep(5 * refused_window);
            proxy.listen_again();
            resumed(&events);
        }
    });
    assert_eq!(a.dead_letters().count() + b.dead_letters().count(), 0);
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

#[test]
fn a_session_that_was_given_one_address_waits_for_it_and_takes_no_other() {
    let (a, b) = (node("a", 0), node("b", 2));
    let events = a.events(64);
    let (wanted, other) = (proxy_to(&b.addresses()[0]), proxy_to(&b.addresses()[1]));
    let to_b = a.connect(&url(&wanted)).unwrap();
    audited(&b, &to_b, || {
        wanted.refuse(true);
        wanted.cut();
        eventually("the link is lost", || to_b.link().is_none());
        let turned_away = wanted.refused();
        eventually("it is dialled again and again", || {
            wanted.refused() > turned_away + 2
        });
        wanted.refuse(false);
        resumed(&events);
    });
    assert_eq!(other.accepted(), 0);
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

#[test]
fn strangers_who_say_nothing_do_not_keep_a_member_out() {
    let b = node("b", 1);
    let address = b.addresses()[0].clone();
    let port = address.strip_prefix("tcp://").unwrap();
    let strangers: Vec<_> = (0..300)
        .map(|_| std::net::TcpStream::connect(port).unwrap())
        .collect();
    let a = node("a", 0);
    // Where there is no room, whoever knocks is refused at once.
    a.connect(&address).unwrap();
    drop(strangers);
}

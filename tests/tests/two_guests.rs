//! Two machines joined by a bad network: loss, reordering, and a partition of 5 s. Every message is accounted for, and the
//! detector's times are reported beside what they were configured to be.
//!
//! The test runs on both nodes of `soft-roce-setup run --nodes 2`: the first receives, the second sends and parts the cable at
//! its end, both ways, so that nothing has to be agreed upon over a network that loses. As root, for `tc`. `AUDIT_SECONDS`
//! makes the loss last longer, `AUDIT_SILENCE` is the detector's deadline in milliseconds.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, eventually};
use tests::numbers::{self, size};
use transport::session::Timing;
use transport::{Address, MailboxOptions, Node, NodeBuilder, Peer};
use transport_tcp::Tcp;

const PARTITION: Duration = Duration::from_secs(5);
const LOSSY: &[&str] = &["delay", "2ms", "1ms", "loss", "1%", "reorder", "10%"];
const CUT: &[&str] = &["loss", "100%"];

/// A session waits almost as long as the test does: it ends only if it should not.
fn timing() -> Timing {
    let silence = Duration::from_millis(size("AUDIT_SILENCE", 2_000));
    Timing {
        heartbeat: silence / 4,
        silence,
        resume_window: PATIENCE * 4 / 5,
        better_link: Duration::from_secs(1),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run by soft-roce-setup run --nodes 2"))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// This node's end of the cable between the two. What comes in goes past a filter of the ingress qdisc, what goes out through
/// netem.
struct Cable(String);

impl Cable {
    /// The end with this address, which loses and reorders what leaves it.
    fn of(address: &str) -> Cable {
        let all = run("ip", &["-o", "-4", "address"]);
        let ours = all.lines().find(|line| line.contains(&format!(" {address}/")));
        let device = ours.and_then(|line| line.split_whitespace().nth(1));
        let cable = Cable(device.unwrap_or_else(|| panic!("{address} in {all}")).to_owned());
        run("tc", &["qdisc", "replace", "dev", &cable.0, "ingress"]);
        cable.make(LOSSY);
        cable
    }

    /// What it does to packets that leave this node.
    fn make(&self, how: &[&str]) {
        let replace = ["qdisc", "replace", "dev", &self.0, "root", "netem"];
        run("tc", &[&replace, how].concat());
    }

    /// Parts it both ways. Returns when nothing came in any more.
    fn part(&self) -> Instant {
        let drop_all = ["parent", "ffff:", "matchall", "action", "drop"];
        run(
            "tc",
            &[&["filter", "add", "dev", &self.0], &drop_all[..]].concat(),
        );
        let parted = Instant::now();
        self.make(CUT);
        parted
    }

    /// Mends it: loss and reordering are back.
    fn mend(&self) {
        run("tc", &["filter", "delete", "dev", &self.0, "parent", "ffff:"]);
        self.make(LOSSY);
    }
}

fn builder(name: &str) -> NodeBuilder {
    let builder = Node::builder(name)
        .secret(b"two machines and a bad network")
        .timing(timing())
        .transport(Tcp::new());
    #[cfg(feature = "verbs")]
    let builder = builder.transport(
        transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()).expect("an RDMA device"),
    );
    builder
}

/// Prints what happens to a node's sessions, from now on, and why.
fn print_events(node: &Node) {
    let (events, start) = (node.events(1024), Instant::now());
    thread::spawn(move || {
        for event in events {
            println!("{:8.3} s: {event:?}", start.elapsed().as_secs_f64());
        }
    });
}

/// The addresses of the first node, best first. Each audit has ports of its own: both may run one after the other.
fn addresses(schemes: &[&str]) -> Vec<String> {
    let host = variable("NODE1_ADDRESS");
    let first = 7000 + 10 * schemes.len();
    let numbered = schemes.iter().enumerate();
    numbered
        .map(|(index, scheme)| format!("{scheme}://{host}:{}", first + index))
        .collect()
}

/// The first node: takes numbers until the other has closed the session.
fn receive(schemes: &[&str]) {
    let _cable = Cable::of(&variable("NODE1_ADDRESS"));
    let listening = addresses(schemes)
        .iter()
        .fold(builder("first"), |builder, address| builder.listen(address));
    let node = listening.start().unwrap();
    print_events(&node);
    let mut inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    let received = numbers::receive(&mut inbox, || false);
    println!("received {} of {:?}", received.count, received.total);
    assert_eq!(received.total, Some(received.count));
    eventually("the session is closed", || node.peers().is_empty());
}

/// Tries for as long as anything may take: the network loses, and the other node may still have to start.
fn patiently<T, E: std::fmt::Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{what}: {error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Parts the cable until the silence is noticed and for 5 s at least, and waits until the session goes on.
fn outlive_a_partition(cable: &Cable, peer: &Peer) {
    eventually("a link", || peer.link().is_some());
    let parted = cable.part();
    eventually("the silence is noticed", || peer.link().is_none());
    // Sooner than configured where the network was silent before, later where the machine is busy: neither is a fault.
    let Timing {
        silence, heartbeat, ..
    } = timing();
    println!(
        "silence of {silence:?} (heartbeats every {heartbeat:?}) noticed {:.3?} after the cable was parted",
        parted.elapsed()
    );
    thread::sleep(PARTITION.saturating_sub(parted.elapsed()));
    cable.mend();
    let mended = Instant::now();
    eventually("another link", || peer.link().is_some());
    println!(
        "goes on {:.3?} after the cable was mended, {:.3?} after it was parted, over {}",
        mended.elapsed(),
        parted.elapsed(),
        scheme_of_link(peer)
    );
}

fn scheme_of_link(peer: &Peer) -> String {
    let link = peer.link().unwrap_or_else(|| "no link".into());
    link.split(" (").next().unwrap_or_default().to_owned()
}

/// The second node: sends numbers through loss and reordering, a partition, and loss again.
fn send(schemes: &[&str]) {
    let cable = Cable::of(&variable("NODE2_ADDRESS"));
    let node = builder("second").start().unwrap();
    print_events(&node);
    let peer = patiently("connect", || node.connect_any(&addresses(schemes)));
    let inbox: Address = patiently("resolve", || peer.address("inbox"));
    let done = Arc::new(AtomicBool::new(false));
    let sending = thread::spawn({
        let (inbox, done) = (inbox.clone(), done.clone());
        move || numbers::send(&inbox, 0, |_| !done.load(Ordering::Relaxed)).unwrap()
    });
    let lossy = Duration::from_secs(size("AUDIT_SECONDS", 2));
    thread::sleep(lossy);
    outlive_a_partition(&cable, &peer);
    thread::sleep(lossy);
    done.store(true, Ordering::Relaxed);
    let sent = sending.join().unwrap();
    println!("at the end over {}", scheme_of_link(&peer));
    numbers::send_end(&inbox, sent);
    assert_eq!((peer.ended(), node.dead_letters().count()), (None, 0));
    node.shutdown(PATIENCE);
    println!("{sent} messages sent, each answered for");
}

fn audit(schemes: &[&str]) {
    match variable("NODE").as_str() {
        "1" => receive(schemes),
        "2" => send(schemes),
        other => panic!("NODE={other}: this test is for two"),
    }
}

#[test]
#[ignore = "needs two guests: soft-roce-setup run --nodes 2"]
fn a_session_over_tcp_outlives_loss_reordering_and_a_partition() {
    audit(&["tcp"]);
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs two guests: soft-roce-setup run --nodes 2"]
fn a_session_over_rdma_outlives_loss_reordering_and_a_partition() {
    audit(&["rdma", "tcp"]);
}

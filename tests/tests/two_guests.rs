//! Two machines joined by a bad network: loss, reordering, and a partition of 5 s. Every message is accounted for, and the
//! detector's times are reported beside what they were configured to be.
//!
//! The test runs on both nodes of `soft-roce-setup run --nodes 2`: the first receives, the second sends. As root, for
//! `tc`. `AUDIT_SECONDS` makes the loss last longer.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, eventually};
use tests::numbers::{self, size};
use transport::session::Timing;
use transport::{Event, MailboxOptions, Node, NodeBuilder, Peer};
use transport_tcp::Tcp;

const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(250),
    silence: Duration::from_secs(1),
    resume_window: Duration::from_secs(30),
    better_link: Duration::from_secs(1),
};
const PARTITION: Duration = Duration::from_secs(5);
const LOSSY: &[&str] = &["delay", "2ms", "1ms", "loss", "1%", "reorder", "10%"];
const CUT: &[&str] = &["loss", "100%"];

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

/// This node's end of the cable between the two.
struct Cable(String);

impl Cable {
    fn of(address: &str) -> Cable {
        let all = run("ip", &["-o", "-4", "address"]);
        let ours = all.lines().find(|line| line.contains(&format!(" {address}/")));
        let device = ours.and_then(|line| line.split_whitespace().nth(1));
        Cable(device.unwrap_or_else(|| panic!("{address} in {all}")).to_owned())
    }

    /// What it does to packets that leave this node.
    fn make(&self, how: &[&str]) {
        let replace = ["qdisc", "replace", "dev", &self.0, "root", "netem"];
        run("tc", &[&replace, how].concat());
    }

    /// Parts it for a while, and until this node has given up the link.
    fn part(&self, peer: &Peer) {
        self.make(CUT);
        thread::sleep(PARTITION);
        eventually("the silence is noticed", || peer.link().is_none());
        self.make(LOSSY);
    }
}

fn builder(name: &str) -> NodeBuilder {
    let builder = Node::builder(name)
        .secret(b"two machines and a bad network")
        .timing(TIMING)
        .transport(Tcp::new());
    #[cfg(feature = "verbs")]
    let builder = builder.transport(
        transport_rdma::Rdma::new(transport_rdma::RdmaOptions::default()).expect("an RDMA device"),
    );
    builder
}

/// Waits for events of one kind, and says what happened since `start`.
fn told(events: &Receiver<Event>, start: Instant, wanted: impl Fn(&Event) -> bool) -> Duration {
    loop {
        let event = events.recv_timeout(PATIENCE).expect("in time");
        println!("{:8.3} s: {event:?}", start.elapsed().as_secs_f64());
        if wanted(&event) {
            return start.elapsed();
        }
    }
}

/// Reports when the silence was noticed, beside what was configured. Sooner than that where the network was silent before,
/// later where the machine was busy: neither is a fault.
fn report(noticed: Duration) {
    println!(
        "silence of {:?} (heartbeats every {:?}) noticed {noticed:.3?} after the cable was parted",
        TIMING.silence, TIMING.heartbeat
    );
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

/// The first node: takes numbers, and parts the cable at its end when it is told to.
fn receive(schemes: &[&str]) {
    let cable = Cable::of(&variable("NODE1_ADDRESS"));
    cable.make(LOSSY);
    let listening = addresses(schemes)
        .iter()
        .fold(builder("first"), |builder, address| builder.listen(address));
    let node = listening.start().unwrap();
    let mut inbox = node.mailbox("inbox", MailboxOptions::default()).unwrap();
    let mut network = node.mailbox("network", MailboxOptions::default()).unwrap();
    let events = node.events(1024);
    let parting = thread::spawn(move || {
        let word = network.recv().expect("the word to part");
        // What loss alone has done so far is not about the partition.
        events.try_iter().for_each(drop);
        let peer = word.peer().expect("from the other node");
        let start = Instant::now();
        let noticing = thread::spawn(move || {
            report(told(&events, start, |event| {
                matches!(event, Event::Suspended { .. })
            }));
            told(&events, start, |event| matches!(event, Event::Ended { .. }));
        });
        cable.part(&peer);
        noticing
    });
    let received = numbers::receive(&mut inbox, || false);
    println!("received {} of {:?}", received.count, received.total);
    assert_eq!(received.total, Some(received.count));
    parting.join().unwrap().join().unwrap();
}

fn connect(node: &Node, addresses: &[String]) -> Peer {
    let start = Instant::now();
    loop {
        match node.connect_any(addresses) {
            Ok(peer) => return peer,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The second node: sends numbers through loss and reordering, a partition, and loss again.
fn send(schemes: &[&str]) {
    let cable = Cable::of(&variable("NODE2_ADDRESS"));
    cable.make(LOSSY);
    let node = builder("second").start().unwrap();
    let peer = connect(&node, &addresses(schemes));
    println!("over {:?}", peer.link());
    let (inbox, network) = (peer.address("inbox").unwrap(), peer.address("network").unwrap());
    let done = AtomicBool::new(false);
    let lossy = Duration::from_secs(size("AUDIT_SECONDS", 3));
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| numbers::send(&inbox, 0, |_| !done.load(Ordering::Relaxed)).unwrap());
        thread::sleep(lossy);
        let events = node.events(1024);
        network.send(b"part").unwrap();
        let start = Instant::now();
        let parting = scope.spawn(|| cable.part(&peer));
        report(told(&events, start, |event| {
            matches!(event, Event::Suspended { .. })
        }));
        parting.join().unwrap();
        let back = told(&events, start, |event| matches!(event, Event::Resumed { .. }));
        println!("goes on {back:.3?} after it was parted for {PARTITION:?}");
        thread::sleep(lossy);
        done.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    numbers::send_end(&inbox, sent);
    assert_eq!(node.dead_letters().count(), 0);
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

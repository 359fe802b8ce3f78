//! A node at rest: what its peers cost it that say nothing but heartbeats, and what a look for messages costs beside them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tests::over::Over;
use tests::process::allow_many_descriptors;
use transport::{Drive, MailboxOptions, Node, Peer, Wait};

/// The share of a core that a node with a hundred idle peers may use, on a machine that others use too. Without
/// optimisation everything takes longer.
const LIMIT: f64 = if cfg!(debug_assertions) { 0.2 } else { 0.02 };
const SECRET: &[u8] = b"a hundred quiet peers";

/// One test at a time: a hundred peers take about as many descriptors as a process may have by default.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    allow_many_descriptors();
    alone
}

fn node(over: Over, name: &str) -> transport::NodeBuilder {
    let builder = Node::builder(name).secret(SECRET);
    match over {
        Over::Tcp => builder.transport(transport_tcp::Tcp::new()),
        Over::Shm | Over::Rdma => builder.transport(transport_rdma::Shm::new()),
    }
}

fn somewhere(over: Over) -> &'static str {
    match over {
        Over::Tcp => "tcp://127.0.0.1:0",
        Over::Shm | Over::Rdma => "shm://@",
    }
}

/// Nodes of one thread each that have connected to `hub`.
fn connect(over: Over, hub: &Node, count: usize) -> Vec<(Node, Peer)> {
    (0..count)
        .map(|number| {
            let node = node(over, &format!("peer {number}")).start().unwrap();
            let peer = node.connect(&hub.addresses()[0]).unwrap();
            (node, peer)
        })
        .collect()
}

/// Time on a CPU of this process's thread of that name.
fn cpu_time(thread: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let spent = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds = spent.split_whitespace().next()?.parse().ok()?;
        (name.trim_end() == thread).then(|| Duration::from_nanos(nanoseconds))
    };
    tasks
        .filter_map(|task| of(task.ok()?))
        .max()
        .unwrap_or_else(|| panic!("no thread {thread:?}"))
}

/// The share of a core that a node with so many connected peers uses while nobody sends.
fn share_of_a_core(over: Over, peers: usize) -> f64 {
    let hub = node(over, "hub").listen(somewhere(over)).start().unwrap();
    let connected = connect(over, &hub, peers);
    std::thread::sleep(Duration::from_secs(1));
    let (before, began) = (cpu_time("node hub"), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let share = (cpu_time("node hub") - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(connected.iter().all(|(_, peer)| peer.ended().is_none()));
    assert_eq!(hub.peers().len(), peers);
    println!(
        "{} with {peers} idle peers: {:.2} % of a core",
        over.name(),
        100.0 * share
    );
    share
}

#[test]
fn a_node_with_a_hundred_idle_peers_uses_next_to_nothing_of_a_core() {
    let _alone = alone();
    for over in [Over::Tcp, Over::Shm] {
        let share = share_of_a_core(over, 100);
        assert!(share < LIMIT, "{}: {:.2} % of a core", over.name(), 100.0 * share);
    }
}

/// What a look for messages costs while all peers are quiet: the least of several tries.
fn look(over: Over, peers: usize) -> Duration {
    const LOOKS: u32 = 20_000;
    let hub = node(over, "hub")
        .drive(Drive::Caller)
        .wait(Wait::Spin)
        .listen(somewhere(over))
        .start()
        .unwrap();
    let mut mailbox = hub.mailbox("quiet", MailboxOptions::default()).unwrap();
    let connected = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(over, &hub, peers));
        while !connecting.is_finished() {
            hub.poll();
        }
        connecting.join().unwrap()
    });
    let mut try_once = || {
        let began = Instant::now();
        for _ in 0..LOOKS {
            mailbox.poll(|_| {}).unwrap();
        }
        began.elapsed() / LOOKS
    };
    let least = (0..10).map(|_| try_once()).min().unwrap();
    drop(connected);
    println!("{} with {peers} idle peers: {least:?} a look", over.name());
    least
}

#[test]
fn a_look_costs_no_more_beside_many_idle_peers_than_a_few_looks_beside_one() {
    let _alone = alone();
    let many = std::env::var("IDLE_PEERS").map_or(100, |peers| peers.parse().unwrap());
    let (one, many) = (look(Over::Shm, 1), look(Over::Shm, many));
    // A hundred times the peers, each touched, would be some fifty times the time.
    assert!(many < 10 * one, "{one:?} beside one peer, {many:?} beside many");
}

#[test]
fn a_message_of_a_peer_that_was_quiet_among_many_arrives() {
    let _alone = alone();
    for over in [Over::Tcp, Over::Shm] {
        let hub = node(over, "hub").listen(somewhere(over)).start().unwrap();
        let mut mailbox = hub.mailbox("hub", MailboxOptions::default()).unwrap();
        let connected = connect(over, &hub, 30);
        let addresses: Vec<_> = connected
            .iter()
            .map(|(_, peer)| peer.address("hub").unwrap())
            .collect();
        for round in 0..20u64 {
            // One talks all the time, the others now and then.
            for sequence in 0..200u64 {
                addresses[0].send(&sequence.to_le_bytes()).unwrap();
            }
            for address in &addresses[1..] {
                address.send(&round.to_le_bytes()).unwrap();
            }
            for _ in 0..200 + addresses.len() - 1 {
                let message = mailbox.recv_timeout(Duration::from_secs(30)).unwrap();
                assert!(message.is_some(), "{}: lost in round {round}", over.name());
            }
        }
    }
}

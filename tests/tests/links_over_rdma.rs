//! Sessions whose RDMA link dies: they go on over TCP, and return when it works again. As root, on soft-RoCE.
#![cfg(feature = "verbs")]

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{audited, eventually};
use transport::{Node, NodeBuilder, Timing};
use transport_rdma::{Rdma, RdmaOptions};
use transport_tcp::Tcp;

/// The network device below the soft-RoCE device under test. Soft-RoCE devices themselves can't be deleted while
/// a process has them open: the kernel waits.
struct Cable(String);

impl Cable {
    fn of_the_device_in_the_environment() -> Cable {
        let device = std::env::var("SOFT_ROCE_DEVICE").expect("SOFT_ROCE_DEVICE");
        let parent = format!("/sys/class/infiniband/{device}/parent");
        let below = std::fs::read_to_string(&parent).unwrap_or_else(|error| panic!("{parent}: {error}"));
        Cable(below.trim().to_owned())
    }

    fn set(&self, state: &str) {
        let status = Command::new("ip")
            .args(["link", "set", &self.0, state])
            .status()
            .expect("the ip command");
        assert!(status.success(), "ip link set {} {state}: {status}", self.0);
    }
}

fn builder(name: &str) -> NodeBuilder {
    let timing = Timing {
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(2),
        resume_window: Duration::from_secs(20),
        better_link: Duration::from_millis(300),
    };
    let rdma = Rdma::new(RdmaOptions::default()).expect("an RDMA device");
    Node::builder(name)
        .secret(b"links over rdma, a shared secret")
        .timing(timing)
        .transport(rdma)
        .transport(Tcp::new())
}

#[test]
#[ignore = "needs a soft-RoCE device and root: soft-roce-setup run"]
fn a_session_outlives_its_rdma_link_over_tcp_and_returns_to_it() {
    let cable = Cable::of_the_device_in_the_environment();
    let host = std::env::var("SOFT_ROCE_ADDRESS").expect("SOFT_ROCE_ADDRESS");
    let b = builder("b")
        .listen(&format!("rdma://{host}:0"))
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let a = builder("a").start().unwrap();
    let to_b = a.connect_any(b.addresses()).unwrap();
    assert!(to_b.link().unwrap().starts_with("rdma"), "{:?}", to_b.link());
    let carries = |scheme: &str| {
        eventually(scheme, || {
            to_b.link().is_some_and(|link| link.starts_with(scheme))
        });
    };
    let sent = audited(&b, &to_b, || {
        for round in 1..=3 {
            thread::sleep(Duration::from_millis(300));
            let start = Instant::now();
            cable.set("down");
            carries("tcp");
            println!(
                "round {round}: over TCP {:?} after the device lost its network",
                start.elapsed()
            );
            thread::sleep(Duration::from_millis(300));
            let start = Instant::now();
            cable.set("up");
            // An attempt may come to nothing while the device still comes up; then the session is back over TCP.
            carries("rdma");
            println!(
                "round {round}: over RDMA {:?} after the network was back",
                start.elapsed()
            );
        }
    });
    println!("{sent} messages, each once and in order");
    assert_eq!(a.dead_letters().count() + b.dead_letters().count(), 0);
    let transports = a.observer().observe().unwrap().transports;
    let rdma = transports.iter().find(|transport| transport.scheme == "rdma");
    let completions = |figure: &&(&str, u64)| figure.0 == "completions";
    let completions = rdma.unwrap().figures.iter().find(completions);
    assert!(completions.unwrap().1 > 0);
}

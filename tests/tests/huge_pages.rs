//! Rings of RDMA sessions on huge pages, when the system keeps some. As root, on soft-RoCE.
#![cfg(feature = "verbs")]

use std::path::Path;
use std::time::Duration;

use tests::audit::eventually;
use transport::{MailboxOptions, Node, NodeBuilder};
use transport_rdma::{Rdma, RdmaOptions};

/// How many huge pages of 2 MiB the system keeps.
const KEPT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// Those of a session's two ends: 5 MiB and a little, to send and to receive.
const NEEDED: u64 = 2 * 2 * 3;

fn read(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().parse().expect("a number")
}

fn builder(name: &str, huge_pages: bool) -> NodeBuilder {
    let options = RdmaOptions {
        huge_pages,
        ..RdmaOptions::default()
    };
    Node::builder(name)
        .secret(b"huge pages, a shared secret")
        .transport(Rdma::new(options).expect("an RDMA device"))
}

/// Sends a message over a fresh session; what the link says about itself, and how many huge pages it took.
fn one_session(huge_pages: bool) -> (String, u64) {
    let host = std::env::var("SOFT_ROCE_ADDRESS").expect("SOFT_ROCE_ADDRESS");
    let free = read(FREE);
    let b = builder("b", huge_pages)
        .listen(&format!("rdma://{host}:0"))
        .start()
        .unwrap();
    let mut inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let a = builder("a", huge_pages).start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let address = to_b.address("inbox").unwrap();
    for length in [64, 60_000] {
        let payload = vec![length as u8; length];
        address.send(&payload).unwrap();
        let message = inbox
            .recv_timeout(Duration::from_secs(30))
            .unwrap()
            .expect("a message");
        assert!(message.payload == payload);
    }
    (to_b.link().expect("a link"), free - read(FREE))
}

#[test]
#[ignore = "needs a soft-RoCE device and root: soft-roce-setup run"]
fn rings_lie_on_huge_pages_when_the_system_keeps_some() {
    assert!(Path::new(KEPT).exists(), "this kernel has no huge pages of 2 MiB");
    let before = read(KEPT);
    std::fs::write(KEPT, (before + NEEDED).to_string()).unwrap();
    assert_eq!(read(KEPT), before + NEEDED, "too little memory in one piece");

    let free = read(FREE);
    let (link, taken) = one_session(true);
    assert!(link.contains("rings on huge pages"), "{link}");
    assert_eq!(taken, NEEDED);
    eventually("the pages are given back", || read(FREE) == free);

    let (link, taken) = one_session(false);
    assert!(!link.contains("huge pages"), "{link}");
    assert_eq!(taken, 0);

    // None are free: ordinary pages serve.
    std::fs::write(KEPT, before.to_string()).unwrap();
    let (link, _) = one_session(true);
    assert!(before > 0 || !link.contains("huge pages"), "{link}");
}

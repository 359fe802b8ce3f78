//! The live view, of a node that really runs.

mod program;

use std::time::{Duration, Instant};

use node_metrics::Endpoint;
use transport::{MailboxOptions, Node, Overflow};
use transport_tcp::Tcp;

#[test]
fn a_node_is_shown_with_its_links_mailboxes_dead_letters_and_events() {
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"bench top, a shared secret")
            .transport(Tcp::new())
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start().unwrap();
    let a = node("a").start().unwrap();
    let options = MailboxOptions {
        capacity: 4,
        overflow: Overflow::DropOldest,
        ..MailboxOptions::default()
    };
    let _inbox = b.mailbox("inbox", options).unwrap();
    let endpoint = Endpoint::open(&b, "127.0.0.1:0").unwrap();
    let address = a.connect(&b.addresses()[0]).unwrap().address("inbox").unwrap();
    for _ in 0..9 {
        address.send(b"a secret message").unwrap();
    }
    // Five of them in vain; then everything is there to be shown.
    let start = Instant::now();
    while b.dead_letters().count() < 5 {
        assert!(start.elapsed() < Duration::from_secs(60), "not dropped in time");
        std::thread::sleep(Duration::from_millis(1));
    }
    let url = format!("http://{}", endpoint.address());
    let shown = program::bench(&["top", &url, "--once", "--every", "0.3"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for wanted in [
        "node b",
        "tcp",
        "inbox",
        "oldest dropped",
        "a -> here inbox",
        "a connected over tcp",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} in {shown}");
    }
    assert!(!shown.contains("secret message"));
}

#[test]
fn an_address_where_no_node_is_says_what_to_do() {
    let shown = program::bench(&["top", "127.0.0.1:1", "--once"]);
    let error = String::from_utf8(shown.stderr).unwrap();
    assert!(
        !shown.status.success() && error.contains("is it running"),
        "{error}"
    );
    let shown = program::bench(&["top", "nowhere", "--once"]);
    let error = String::from_utf8(shown.stderr).unwrap();
    assert!(error.contains("http://host:port"), "{error}");
    assert_eq!(shown.status.code(), Some(2));
}

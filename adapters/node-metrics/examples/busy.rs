//! Two nodes that talk until they are stopped, for `bench top` and Prometheus to look at:
//! `cargo run --release -p node-metrics --example busy`, then `bench top http://127.0.0.1:9900`.

use std::time::Duration;

use node_metrics::Endpoint;
use transport::{MailboxOptions, Node, Overflow};
use transport_tcp::Tcp;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9900".into());
    let node = |name: &str| {
        Node::builder(name)
            .secret(b"a busy pair of nodes")
            .transport(Tcp::new())
    };
    let b = node("b").listen("tcp://127.0.0.1:0").start()?;
    let endpoint = Endpoint::open(&b, &address)?;
    println!("http://{}/metrics", endpoint.address());
    let mut steady = b.mailbox("steady", MailboxOptions::default())?;
    let hasty = MailboxOptions {
        capacity: 64,
        overflow: Overflow::DropOldest,
        ..MailboxOptions::default()
    };
    let mut slow = b.mailbox("slow", hasty)?;

    let a = node("a").start()?;
    let to_b = a.connect(&b.addresses()[0])?;
    let (to_steady, to_slow) = (to_b.address("steady")?, to_b.address("slow")?);
    std::thread::spawn(move || {
        for number in 0u64.. {
            to_steady.send(&[7; 64]).expect("b lives as long as this program");
            if number.is_multiple_of(50) {
                to_slow.send(&[9; 16]).expect("b lives as long as this program");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    std::thread::spawn(move || {
        loop {
            let _ = slow.recv();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    loop {
        steady.recv()?;
    }
}

//! Several peers of one node: what one sends is not held up because there are others.

use std::time::{Duration, Instant};

use tests::hub::Hub;
use transport::{Address, Mailbox, Node};
use transport_tcp::Tcp;

const SECRET: &[u8] = b"several peers, a shared secret";

fn exchange(to_hub: &Address, hub: &mut Mailbox, message: &[u8]) -> Duration {
    let start = Instant::now();
    to_hub.send(message).unwrap();
    let received = hub
        .recv_timeout(Duration::from_secs(60))
        .unwrap()
        .expect("in time");
    assert_eq!(received.payload.len(), message.len());
    start.elapsed()
}

#[test]
fn a_message_that_arrives_in_pieces_is_not_left_half_read_when_there_are_many_peers() {
    let node = |name: &str| Node::builder(name).secret(SECRET).transport(Tcp::new());
    let mut hub = Hub::with_peers(4, node);
    let addresses = &hub.addresses;
    // Longer than what one read takes, so that it comes in several.
    let message = vec![7; 60_000];
    let mut took: Vec<Duration> = (0..40)
        .map(|round| exchange(&addresses[round % addresses.len()], &mut hub.inbox, &message))
        .collect();
    took.sort();
    // What is left half-read waits for the next heartbeat: 250 ms, or half of that on average.
    assert!(
        took[took.len() / 2] < Duration::from_millis(120),
        "median {:?}",
        took[took.len() / 2]
    );
}

//! Model checking, under `--cfg loom`: the rings and the waiting of this crate, run in every order that threads and the
//! memory model allow (see <https://docs.rs/loom>), on the very code that ships.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p transport --lib --release --target-dir target/loom models::
//! ```
//!
//! What loom cannot see: it takes `SeqCst` loads, stores and swaps for acquire and release, so that code that passes leans
//! on fences alone; and it knows nothing of devices. What a device may do to bytes is the business of `Arrival::Checked`.
//!
//! Loom begins with an order in which threads run one after the other as they were spawned, and seeks others from there by
//! the last access to each atomic alone, which misses some. So models spawn who writes first and who reads last, and
//! rather try once than wait in a loop.

mod dozing;
mod gate;
mod orderings;
mod rings;
mod standing;
mod waiting;
mod wishing;

use crate::frame::Kind;
use crate::ring::SendRing;

/// Bytes of a model's ring: room for four frames of the longest kind, so that it comes around.
const CAPACITY: usize = 128;

/// Explores `model` in every order, or in all that take no more than `preemptions` forced switches.
fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(model);
}

/// A message that says who sent it and which of its sender's it is.
fn message(ring: &SendRing, sender: u8, number: u8) -> Vec<u8> {
    let mut body = vec![sender; ring.max_body()];
    body[0] = sender;
    body[1] = number;
    body
}

/// Sends, if there is room.
fn try_send(ring: &SendRing, sender: u8, number: u8) -> bool {
    let body = message(ring, sender, number);
    let Ok(mut claim) = ring.claim(body.len()) else {
        return false;
    };
    assert!(
        claim.body().iter().all(|byte| *byte == 0),
        "a claim that is not zero"
    );
    claim.body().copy_from_slice(&body);
    claim.commit(Kind::Message, 0, 0, 7);
    true
}

/// Sends two at once, or as many of them as there is room for. How many.
fn try_send_both(ring: &SendRing, sender: u8) -> u8 {
    let messages = [0, 1].map(|number| message(ring, sender, number));
    let bodies = [&messages[0][..], &messages[1]];
    ring.write(Kind::Message, 7, &bodies, |fit| fit).unwrap_or(0) as u8
}

/// Sends, when there is room.
fn send(ring: &SendRing, sender: u8, number: u8) {
    while !try_send(ring, sender, number) {
        loom::thread::yield_now();
    }
}

/// Checks that what comes is each sender's next message, whole.
struct Expect {
    next: [u8; 4],
}

impl Expect {
    fn new() -> Expect {
        Expect { next: [0; 4] }
    }

    fn take(&mut self, ring: &SendRing, body: &[u8]) {
        let sender = body[0];
        let next = &mut self.next[usize::from(sender)];
        assert_eq!(
            body,
            message(ring, sender, *next),
            "torn, lost, doubled or out of order"
        );
        *next += 1;
    }

    fn taken(&self) -> u8 {
        self.next.iter().sum()
    }
}

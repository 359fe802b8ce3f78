//! Streams between nodes: as bytes, as frames, many at once, and what each half sees when the other, the link or the
//! whole peer goes away.

mod begun;
mod bytes;
mod frames;
mod halves;
mod killed;
mod without_a_runtime;

use std::future::Future;
use std::time::Duration;

use tests::over::Over;
use tokio::time::timeout;
use transport::stream::{Stream, StreamListener, StreamOptions};
use transport::{Node, Peer, Timing, Wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// For nodes that are driven by the test's own task: it may work for a while between two turns of the node.
const PATIENT: Timing = Timing {
    heartbeat: Duration::from_millis(500),
    silence: PATIENCE,
    resume_window: PATIENCE,
    better_link: Duration::from_secs(1),
};

/// Anything that should happen happens in time.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

struct Pair {
    a: Node,
    b: Node,
    to_b: Peer,
    listener: StreamListener,
}

impl Pair {
    /// Two nodes, one with a thread of its own, one driven by tokio.
    async fn over(over: Over) -> Pair {
        Pair::with_window(over, StreamOptions::default()).await
    }

    async fn with_window(over: Over, options: StreamOptions) -> Pair {
        let builder = |name| over.builder(name).timing(PATIENT);
        let b = builder("b").listen(&over.free_address()).start().unwrap();
        let a = builder("a").wait(Wait::Park).start_on_tokio().unwrap();
        let to_b = a.connect_async(&b.addresses()[0]).await.unwrap();
        let listener = b.listen_streams("echo", options).unwrap();
        Pair { a, b, to_b, listener }
    }

    async fn stream(&mut self) -> (Stream, Stream) {
        let options = StreamOptions::default();
        let (opened, accepted) = tokio::join!(
            self.to_b.open_stream("echo", options),
            self.listener.accept_stream()
        );
        (opened.unwrap(), accepted.unwrap())
    }
}

/// Bytes that tell where they belong.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

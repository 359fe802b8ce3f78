//! Two batches in flight: while one is being written and synced, the next is encoded.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use super::*;

/// Batches appended before it is another way's turn.
const TURN: usize = 10;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One thread that begins a batch before the one before is durable.
fn by_futures(journal: &Journal, events: &[Event<'_>]) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut flying: VecDeque<Pin<Box<dyn Future<Output = _> + '_>>> = VecDeque::new();
    let mut begun = 0;
    while begun < TURN || !flying.is_empty() {
        while begun < TURN && flying.len() < 2 {
            let mut batch = Box::pin(journal.append_async(events, Expected::Any));
            begun += 1;
            // It takes its place, and is encoded.
            if batch.as_mut().poll(&mut context).is_pending() {
                flying.push_back(batch);
            }
        }
        while let Some(oldest) = flying.front_mut() {
            match oldest.as_mut().poll(&mut context) {
                Poll::Pending => std::thread::park(),
                Poll::Ready(appended) => {
                    appended.unwrap();
                    flying.pop_front();
                    break;
                }
            }
        }
    }
}

/// Two threads, each of which waits for its own.
fn by_threads(journal: &Journal, events: &[Event<'_>]) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..TURN / 2 {
                    journal.append(events, Expected::Any).unwrap();
                }
            });
        }
    });
}

/// Groups of `size`, two in flight, beside one at a time and a bare loop that has one.
pub(crate) fn groups(dir: &Path, size: usize, turns: usize) {
    let bytes = size * RECORD;
    let total = (turns * TURN * bytes) as u64;
    let home = tempfile::tempdir_in(dir).unwrap();
    let bare = zeroed(home.path(), total);
    let journal = buffered(home.path(), 3 * total);
    let payload = [7; PAYLOAD];
    let events = group(&payload, size);
    let block = vec![7; bytes];
    let mut took = [0.0; 4];
    for turn in 0..turns {
        for nth in 0..took.len() {
            let which = (turn + nth) % took.len();
            let start = Instant::now();
            match which {
                0 => by_futures(&journal, &events),
                1 => by_threads(&journal, &events),
                2 => {
                    for _ in 0..TURN {
                        journal.append(&events, Expected::Any).unwrap();
                    }
                }
                _ => {
                    for n in 0..TURN {
                        let at = (turn * TURN + n) * bytes;
                        bare.write_all_at(&block, at as u64).unwrap();
                        bare.sync_data().unwrap();
                    }
                }
            }
            took[which] += start.elapsed().as_secs_f64();
        }
    }
    let [futures, threads, one, bare] = took.map(|seconds| (size * TURN * turns) as f64 / seconds);
    println!(
        "buffered, groups of {size}, two in flight: one thread, append_async {futures:.0} events/s, ratio to the bare loop {:.2}; \
         two threads {threads:.0}, {:.2}; one at a time {one:.0}, {:.2}; bare pwrite + fdatasync, one at a time, {bare:.0}",
        futures / bare,
        threads / bare,
        one / bare
    );
}

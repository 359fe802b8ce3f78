//! Makes the index of each segment after it was sealed, on a thread of its own, so that no append waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::indexes::Indexes;

/// What the thread and its owner share.
#[derive(Default)]
struct Shared {
    /// One more than the last segment indexed; 0: none yet.
    done: AtomicU64,
    stop: AtomicBool,
}

/// The thread, or nothing: then indexes are made when they are needed.
pub(crate) struct Indexer {
    thread: Option<(Sender<u64>, JoinHandle<()>)>,
    shared: Arc<Shared>,
}

impl Indexer {
    pub(crate) fn new(indexes: &Arc<Indexes>, background: bool) -> io::Result<Indexer> {
        let shared = Arc::new(Shared::default());
        if !background {
            return Ok(Indexer { thread: None, shared });
        }
        let (ask, asked) = channel::<u64>();
        let (indexes, theirs) = (Arc::clone(indexes), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("journal-index".to_owned())
            .spawn(move || {
                for segment in asked {
                    if theirs.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // A failure is met again, and told, by who needs the index.
                    if indexes.ensure(segment).is_ok() {
                        theirs.done.fetch_max(segment + 1, Ordering::Release);
                    }
                }
            })?;
        Ok(Indexer {
            thread: Some((ask, thread)),
            shared,
        })
    }

    /// Asks for the index of a sealed segment; of several, in their order.
    pub(crate) fn ask(&self, segment: u64) {
        if let Some((ask, _)) = &self.thread {
            let _ = ask.send(segment);
        }
    }

    /// The last segment indexed.
    pub(crate) fn done(&self) -> Option<u64> {
        self.shared.done.load(Ordering::Acquire).checked_sub(1)
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some((ask, thread)) = self.thread.take() {
            drop(ask);
            let _ = thread.join();
        }
    }
}

//! How long messages wait in their mailboxes: samples, for whoever subscribes.
//!
//! One message of a mailbox is timed at a time, and at most one for each tick of the coarse clock (1 to 10 ms): so a busy
//! mailbox costs two looks at the precise clock in as long, and without a subscriber nothing. Messages that are lent by
//! [`crate::Mailbox::poll`] never wait, and are not timed.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::clock::Stamp;
use crate::wait::lock;

/// How long one message waited, from when it came in until it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The mailbox.
    pub mailbox: String,
    /// The protocol that it speaks; `None` for raw bytes.
    pub protocol: Option<Cow<'static, str>>,
    /// How long.
    pub waited: Duration,
}

/// The subscribers of a node's latencies.
#[derive(Default)]
pub(crate) struct Latencies {
    wanted: AtomicBool,
    subscribers: Mutex<Vec<SyncSender<Latency>>>,
}

impl Latencies {
    pub(crate) fn subscribe(&self, capacity: usize) -> Receiver<Latency> {
        let (sender, receiver) = sync_channel(capacity);
        lock(&self.subscribers).push(sender);
        self.wanted.store(true, Ordering::Relaxed);
        receiver
    }

    #[inline]
    pub(crate) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, latency: &Latency) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| {
            !matches!(
                subscriber.try_send(latency.clone()),
                Err(TrySendError::Disconnected(_))
            )
        });
        if subscribers.is_empty() {
            self.wanted.store(false, Ordering::Relaxed);
        }
    }
}

/// Which message of a mailbox is timed.
#[derive(Default)]
pub(crate) struct Timer {
    running: Option<Instant>,
    last: Option<Stamp>,
}

impl Timer {
    /// Whether the message that comes in at this time is the one to be timed.
    #[inline]
    pub(crate) fn starts(&mut self, at: Stamp) -> bool {
        if self.running.is_some() || self.last == Some(at) {
            return false;
        }
        self.last = Some(at);
        self.running = Some(Instant::now());
        true
    }

    /// The timed message is gone: how long it waited.
    pub(crate) fn stop(&mut self) -> Option<Duration> {
        self.running.take().map(|started| started.elapsed())
    }
}

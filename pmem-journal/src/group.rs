//! The appends that one sync makes durable together.

use std::time::Duration;

use crate::queue::Queue;
use crate::sync_thread::SyncThread;

/// The group that is gathering, and what the last ones were like.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) queue: Queue,
    /// Appends that have come.
    pub(crate) appends: u32,
    /// Appends of the group before.
    pub(crate) expected: u32,
    /// How long the last sync of a thread's took.
    pub(crate) last_sync: Duration,
    /// The buffer not in use, kept for its capacity.
    pub(crate) idle: Vec<u8>,
    /// Syncs for futures, once there was one.
    pub(crate) sync_thread: Option<SyncThread>,
}

impl Group {
    /// Whether a job is under way.
    pub(crate) fn is_syncing(&self) -> bool {
        self.queue.is_syncing()
    }
}

//! What devices have told, over all connections.

use std::sync::atomic::AtomicU64;

/// How many completions and events there were.
#[derive(Default)]
pub(crate) struct Counts {
    /// Completions of success.
    pub(crate) succeeded: AtomicU64,
    /// Completions of failures of their own.
    pub(crate) failed: AtomicU64,
    /// Events of devices and their ports.
    pub(crate) events: AtomicU64,
}

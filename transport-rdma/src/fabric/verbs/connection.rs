//! A reliable connection: the regions at this end, and what both halves of a link ask of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use transport::lane::{LANES, Lane};
use transport::link::LinkError;

use super::cells;
use super::completion::{Event, Queue};
use super::device::Device;
use super::region::Region;
use super::send_queue::SendQueue;
use crate::fabric::cell;

/// What both halves of a link share. Fields are dropped in order: first the queue pair, after which the device
/// writes nothing more, then the regions.
pub(crate) struct Connection {
    pub(super) send: Mutex<SendQueue>,
    pub(super) _receive: [Region; LANES],
    pub(super) cells: Region,
    pub(super) send_completions: Queue,
    /// Whether a push found no room, so that room is worth waking up for.
    pub(super) blocked: AtomicBool,
    pub(super) description: String,
    pub(super) device: Arc<Device>,
}

impl Connection {
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Fails once the device is of no more use.
    pub(crate) fn check_device(&self) -> Result<(), LinkError> {
        self.device.check()
    }

    /// The send queue. Held for one post, never while waiting for anything.
    pub(crate) fn send_queue(&self) -> MutexGuard<'_, SendQueue> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The send queue, unless the other half of the link posts right now.
    pub(crate) fn try_send_queue(&self) -> Option<MutexGuard<'_, SendQueue>> {
        self.send.try_lock().ok()
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// What the peer has acknowledged of a lane, if that is something else than `known`.
    #[inline]
    pub(crate) fn credit(&self, lane: Lane, known: u64) -> Option<u64> {
        cell::changed(self.cells.memory(), cells::acknowledgement(lane), known)
    }

    /// What the peer last said of whether it wants to be woken, if that is something else than `known`.
    #[inline]
    pub(crate) fn peer_notify(&self, known: u32) -> Option<u32> {
        cell::changed(self.cells.memory(), cells::WISH, u64::from(known)).map(|value| value as u32)
    }

    /// Asks for an event when work requests complete.
    pub(crate) fn arm_send_completions(&self) -> Result<(), LinkError> {
        self.send_completions.arm(Event::Any)
    }
}

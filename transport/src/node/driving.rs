//! The right to drive a node that callers drive.

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::{Drive, NodeInner};
use crate::drive::Driver;
use crate::wait::try_lock;

/// The right to drive a node. Whoever closes the node while another drives it leaves the rest to that one.
pub(crate) struct Driving<'n> {
    driver: MutexGuard<'n, Driver>,
    /// Behind the driver: fields are dropped in this order.
    _after: AfterDriving<'n>,
}

/// Dropped when the driver is free again, gives up the listeners and the peers of a node that is closed.
struct AfterDriving<'n>(&'n NodeInner);

impl NodeInner {
    /// The right to drive, if nobody has it.
    #[inline]
    pub(crate) fn try_drive(&self) -> Option<Driving<'_>> {
        if self.drive == Drive::Thread {
            return None;
        }
        Some(Driving {
            driver: try_lock(&self.driver)?,
            _after: AfterDriving(self),
        })
    }

    /// Called by a thread that has driven, and drives no more. Where a task of tokio drives otherwise, it makes a pass: it may sleep in
    /// the belief that all links are armed, and those that a thread has polled are not.
    #[inline]
    pub(crate) fn hand_back(&self) {
        #[cfg(feature = "tokio")]
        if let Some(task) = self.task.get() {
            task.call();
        }
    }

    /// Gives up what the driver has, where callers drive the node and it is closed. If somebody drives, that one does.
    #[cold]
    pub(super) fn stop_driving(&self) {
        if let Some(mut driver) = try_lock(&self.driver) {
            driver.stop();
        }
    }
}

impl Deref for Driving<'_> {
    type Target = Driver;

    #[inline]
    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Driving<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Drop for AfterDriving<'_> {
    #[inline]
    fn drop(&mut self) {
        // The lock is free: either this finds the node closed, or who closes it finds the lock free.
        if self.0.closed.load(Ordering::SeqCst) {
            self.0.stop_driving();
        }
    }
}

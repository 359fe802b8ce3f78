//! The right to drive a node that callers drive.

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::{Drive, NodeInner};
use crate::drive::Driver;
use crate::wait::try_lock;

/// The right to drive a node. Whoever closes the node while another drives it leaves the rest to that one: dropped, this gives up
/// the listeners and the peers of a node that is closed.
pub(crate) struct Driving<'n> {
    node: &'n NodeInner,
    /// There until this is dropped.
    driver: Option<MutexGuard<'n, Driver>>,
}

impl NodeInner {
    /// The right to drive, if nobody has it.
    #[inline]
    pub(crate) fn try_drive(&self) -> Option<Driving<'_>> {
        if self.drive == Drive::Thread {
            return None;
        }
        let driver = Some(try_lock(&self.driver)?);
        Some(Driving { node: self, driver })
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
        self.driver.as_ref().expect("until it is dropped")
    }
}

impl DerefMut for Driving<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Driver {
        self.driver.as_mut().expect("until it is dropped")
    }
}

impl Drop for Driving<'_> {
    #[inline]
    fn drop(&mut self) {
        self.driver = None;
        // After the lock is free: either this finds the node closed, or who closes it finds the lock free.
        if self.node.closed.load(Ordering::SeqCst) {
            self.node.stop_driving();
        }
    }
}

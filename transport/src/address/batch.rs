//! Several messages that leave together.

use super::{Address, SendError, Target};

/// Several messages that leave together. Dropping it pushes what is left.
pub struct SendBatch<'a> {
    address: &'a Address,
    unpushed: usize,
}

/// Committed bytes after which a batch is pushed without being asked: enough to make the cost of a push small.
const BATCH_BYTES: usize = 32 << 10;

impl<'a> SendBatch<'a> {
    pub(super) fn of(address: &'a Address) -> SendBatch<'a> {
        SendBatch { address, unpushed: 0 }
    }

    /// Commits a message; it leaves with the batch. Never blocks; when there is no room, pushes and says so.
    ///
    /// # Errors
    /// As [`Address::try_send`].
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        let Target::Remote(route) = &self.address.target else {
            return self.address.try_send(payload);
        };
        if route.is_streamed(payload.len()) {
            self.flush();
            return self.address.try_send(payload);
        }
        match route.claim(payload.len(), None) {
            Ok(Some(mut slot)) => {
                slot.payload().copy_from_slice(payload);
                slot.commit();
                self.unpushed += crate::frame::size(payload.len());
                if self.unpushed >= BATCH_BYTES {
                    self.flush();
                }
                Ok(())
            }
            Ok(None) => {
                route.drop_newest(payload.len(), None);
                Ok(())
            }
            Err(error) => {
                self.flush();
                Err(error)
            }
        }
    }

    /// As [`SendBatch::try_send`], waiting for room as long as it takes if the policy is to wait.
    ///
    /// # Errors
    /// As [`Address::send`].
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        match self.try_send(payload) {
            Err(SendError::TooLongAtOnce { .. }) => self.address.send(payload),
            Err(error) if self.address.worth_waiting(&error) => self.address.send(payload),
            done => done,
        }
    }

    /// Pushes what was committed.
    pub fn flush(&mut self) {
        if self.unpushed > 0
            && let Target::Remote(route) = &self.address.target
        {
            route.peer.flush();
        }
        self.unpushed = 0;
    }
}

impl Drop for SendBatch<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

//! Several messages that leave together.

use super::content::Content;
use super::{Address, SendError, Target};
use crate::frame;

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
        self.commit_at_once(&[payload]).map(drop)
    }

    /// Commits as many of the first of these messages as there is room for; they leave with the batch. Never blocks. Returns
    /// how many were committed or, by the mailbox's policy, dropped: fewer than all where there is no room for the next, which
    /// has been pushed for then. Messages that fit the ordinary lane cost far less so than one by one: they take credit and room
    /// together, up to 4 KiB of them at once.
    ///
    /// # Errors
    /// As [`Address::try_send`], of the first message: then none is sent.
    pub fn try_send_all(&mut self, messages: &[&[u8]]) -> Result<usize, SendError> {
        let mut sent = 0;
        while sent < messages.len() {
            match self.commit_at_once(&messages[sent..]) {
                Ok(more) => sent += more,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    /// Commits the first message, and of the others as many as go with it. How many.
    #[inline(always)]
    fn commit_at_once(&mut self, messages: &[&[u8]]) -> Result<usize, SendError> {
        if let Target::Remote(route) = &self.address.target {
            let committed = route.commit_at_once(messages);
            if committed > 0 {
                let sizes = messages[..committed]
                    .iter()
                    .map(|message| frame::size(message.len()));
                self.count(sizes.sum());
                return Ok(committed);
            }
        }
        self.commit_otherwise(messages[0]).map(|()| 1)
    }

    /// Commits a message that does not go into the ordinary lane just like that, or says why it can't be.
    #[cold]
    fn commit_otherwise(&mut self, message: &[u8]) -> Result<(), SendError> {
        if self.address.goes_in_several_chunks(message.len()) {
            self.flush();
        }
        match self.address.commit_content(Content::Bytes(message), None) {
            Ok(committed) => {
                if committed {
                    self.count(frame::size(message.len()));
                }
                Ok(())
            }
            Err(error) => {
                self.flush();
                Err(error)
            }
        }
    }

    /// Counts what was committed, and pushes when much has piled up.
    #[inline]
    fn count(&mut self, bytes: usize) {
        self.unpushed += bytes;
        if self.unpushed >= BATCH_BYTES {
            self.flush();
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

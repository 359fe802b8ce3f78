//! Taking messages from a mailbox with the waiting that the floors use: poll, for as long as [`Idle`] says so, then
//! sleep in a receive.

use std::time::Duration;

use transport::{Address, Mailbox, Message, SendError};

use crate::error::{Error, failed};
use crate::wait::{Gone, Idle, Next, STALLED_AFTER, Wait};

/// A sleeper looks this often whether its peer still lives.
pub(crate) const SLEEP_AT_MOST: Duration = Duration::from_millis(500);

/// A mailbox and how to wait for its messages.
pub(crate) struct Inbox {
    mailbox: Mailbox,
    pub(crate) wait: Wait,
}

impl Inbox {
    pub(crate) fn new(mailbox: Mailbox, wait: Wait) -> Inbox {
        Inbox { mailbox, wait }
    }

    /// Waits until there is a message and hands over every one that is there. Drives the node.
    #[inline]
    pub(crate) fn take(&mut self, gone: &Gone, mut handle: impl FnMut(Message<'_>)) -> Result<usize, Error> {
        let mut idle = Idle::new(self.wait, gone);
        loop {
            let taken = self
                .mailbox
                .poll(&mut handle)
                .map_err(failed("polling a mailbox"))?;
            if taken > 0 {
                return Ok(taken);
            }
            if idle.found_nothing()? == Next::Sleep
                && let Some(message) = self
                    .mailbox
                    .recv_timeout(SLEEP_AT_MOST)
                    .map_err(failed("receiving from a mailbox"))?
            {
                handle(message);
                return Ok(1);
            }
        }
    }
}

/// Sends at once, or bit by bit what is too long for that.
#[inline]
pub(crate) fn send(to: &Address, message: &[u8]) -> Result<(), SendError> {
    match to.try_send(message) {
        Err(SendError::TooLongAtOnce { .. }) => to.send_timeout(message, None, STALLED_AFTER),
        sent => sent,
    }
}

/// The number that a message starts with.
#[inline]
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload
        .first_chunk()
        .map(|bytes: &[u8; 8]| u64::from_le_bytes(*bytes))
}

/// Checks that the messages of a round come whole, in order, and each once.
pub(crate) struct Order {
    next: u64,
    size: usize,
    wrong: Option<(usize, Option<u64>)>,
}

impl Order {
    pub(crate) fn new(size: usize) -> Order {
        Order {
            next: 0,
            size,
            wrong: None,
        }
    }

    /// Messages seen.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.next
    }

    #[inline]
    pub(crate) fn see(&mut self, payload: &[u8]) {
        if payload.len() != self.size || number(payload) != Some(self.next) {
            self.wrong.get_or_insert_with(|| (payload.len(), number(payload)));
        }
        self.next += 1;
    }

    /// # Errors
    /// The first message that was not the one expected.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.wrong {
            None => Ok(()),
            Some((len, number)) => Err(Error::WrongMessage {
                len,
                number,
                size: self.size,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_doubled_and_a_cut_message_are_found() {
        let message = |number: u64| number.to_le_bytes();
        for wrong in [&message(2)[..], &message(0)[..], &message(1)[..7]] {
            let mut order = Order::new(8);
            order.see(&message(0));
            order.check().unwrap();
            order.see(wrong);
            assert!(order.check().is_err(), "{wrong:?}");
        }
    }
}

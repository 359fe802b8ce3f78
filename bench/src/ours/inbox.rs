//! Taking messages from a mailbox with the waiting that the floors use: poll, for as long as [`Idle`] says so, then
//! sleep in a receive.

use std::time::Duration;

use transport::{Address, Mailbox, Message, SendError};

use crate::error::{Error, failed};
use crate::load;
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

    /// Hands over every message that is there. Drives the node.
    #[inline]
    pub(crate) fn look(&mut self, handle: impl FnMut(Message<'_>)) -> Result<usize, Error> {
        self.mailbox.poll(handle).map_err(failed("polling a mailbox"))
    }

    /// Sleeps until there is a message, for [`SLEEP_AT_MOST`], and hands it over. Drives the node.
    pub(crate) fn sleep(&mut self, mut handle: impl FnMut(Message<'_>)) -> Result<usize, Error> {
        let message = self
            .mailbox
            .recv_timeout(SLEEP_AT_MOST)
            .map_err(failed("receiving from a mailbox"))?;
        Ok(message.map(&mut handle).map_or(0, |()| 1))
    }

    /// Waits until there is a message and hands over every one that is there. Drives the node.
    #[inline]
    pub(crate) fn take(&mut self, gone: &Gone, mut handle: impl FnMut(Message<'_>)) -> Result<usize, Error> {
        let mut idle = Idle::new(self.wait, gone);
        loop {
            let taken = self.look(&mut handle)?;
            if taken > 0 {
                return Ok(taken);
            }
            if idle.found_nothing()? == Next::Sleep && self.sleep(&mut handle)? > 0 {
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

/// Whether a message that is long enough has its number at its end as well.
#[inline]
fn ends_with(payload: &[u8], number: u64) -> bool {
    payload.len() < 16 || payload.ends_with(&number.to_le_bytes())
}

/// Checks that the messages of a round come whole, in the order of their streams, and each once.
pub(crate) struct Order {
    /// The number that comes next, of each stream.
    next: Vec<u64>,
    seen: u64,
    size: usize,
    wrong: Option<(usize, Option<u64>)>,
}

impl Order {
    pub(crate) fn new(size: usize, streams: u32) -> Order {
        Order {
            next: (0..streams).map(|stream| load::number(stream, 0)).collect(),
            seen: 0,
            size,
            wrong: None,
        }
    }

    /// Messages seen.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    #[inline]
    pub(crate) fn see(&mut self, payload: &[u8]) {
        let found = number(payload);
        let next = found.and_then(|number| self.next.get_mut(load::parts(number).0));
        match next {
            Some(next) if payload.len() == self.size && found == Some(*next) && ends_with(payload, *next) => {
                *next += 1;
            }
            _ => {
                self.wrong.get_or_insert((payload.len(), found));
            }
        }
        self.seen += 1;
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
        let mut half = [0; 16];
        load::mark(&mut half, 0);
        let mut order = Order::new(16, 1);
        order.see(&half);
        order.check().unwrap();
        half[..8].copy_from_slice(&message(1));
        order.see(&half);
        assert!(order.check().is_err(), "its end is that of the one before");
        for wrong in [&message(2)[..], &message(0)[..], &message(1)[..7]] {
            let mut order = Order::new(8, 1);
            order.see(&message(0));
            order.check().unwrap();
            order.see(wrong);
            assert!(order.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn streams_may_mix_but_none_of_them_may_skip() {
        let message = |stream, sequence| load::number(stream, sequence).to_le_bytes();
        let mut order = Order::new(8, 2);
        for (stream, sequence) in [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1)] {
            order.see(&message(stream, sequence));
        }
        order.check().unwrap();
        order.see(&message(0, 3));
        assert!(order.check().is_err());
        let mut order = Order::new(8, 2);
        order.see(&message(2, 0));
        assert!(order.check().is_err(), "no such stream");
    }
}

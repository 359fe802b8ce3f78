//! Lending in place: the owner of a mailbox drives the node itself, and reads messages where they arrived.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::receiver::Fill;
use super::{Mailbox, MailboxClosed, MailboxShared, Message};
use crate::breakage::{Breakage, is_broken};

impl Mailbox {
    /// Drives the node once and hands every message of this mailbox that is there to `handle`, lending it where it
    /// lies: in the receive ring, with no copy, when the calling thread is the one that drives. Returns how many.
    ///
    /// `handle` may send; it must not block on this node.
    ///
    /// # Errors
    /// [`MailboxClosed`] when the node is closed and everything has been taken.
    pub fn poll(&mut self, mut handle: impl FnMut(Message<'_>)) -> Result<usize, MailboxClosed> {
        let mut handled = 0;
        loop {
            if self.may_fill() {
                match self.drain(&mut handle) {
                    Ok(drained) => handled += drained,
                    Err(closed) if handled == 0 => return Err(closed),
                    Err(_) => return Ok(handled),
                }
            }
            let Some(mut driver) = self.node.try_drive() else {
                return Ok(handled);
            };
            // Nobody else puts a peer's messages into the queue from here on, so lending keeps their order if none is
            // there.
            if self.may_fill() {
                continue;
            }
            let mut counted = |message: Message<'_>| {
                handled += 1;
                handle(message);
            };
            let mut direct = Some(Direct {
                mailbox: &self.shared,
                handle: &mut counted,
                panic: None,
            });
            self.node.pass(&mut driver, &mut direct);
            let panic = direct.and_then(|direct| direct.panic);
            drop(driver);
            self.node.hand_back();
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
            return Ok(handled);
        }
    }

    fn drain(&mut self, handle: &mut impl FnMut(Message<'_>)) -> Result<usize, MailboxClosed> {
        let mut handled = 0;
        loop {
            match self.fill(None) {
                Fill::Ready => handle(self.take()),
                Fill::Closed if handled == 0 => return Err(MailboxClosed),
                Fill::Empty | Fill::Closed => return Ok(handled),
            }
            handled += 1;
        }
    }
}

/// A mailbox whose owner is driving the node itself: its messages are lent from where they arrived.
pub(crate) struct Direct<'d> {
    pub(crate) mailbox: &'d Arc<MailboxShared>,
    handle: &'d mut dyn FnMut(Message<'_>),
    /// What the owner's code panicked with. From then on messages go to the queue.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl Direct<'_> {
    /// Lends a message. The frame that it stands in is consumed afterwards, also when the owner's code panics: the
    /// message has been handed out, and is not handed out again.
    #[inline]
    pub(crate) fn lend(&mut self, message: Message<'_>) {
        let handled = catch_unwind(AssertUnwindSafe(|| (self.handle)(message)));
        if let Err(panic) = handled {
            if is_broken(Breakage::RepeatsAfterAPanic) {
                resume_unwind(panic);
            }
            self.panic = Some(panic);
        }
    }
}

//! A port: what one sending session may send to a mailbox, and what it has sent. Credit is a position, never a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::{MailboxShared, Overflow};
use crate::breakage::{Breakage, is_broken};
use crate::control::Control;
use crate::peer::PeerInner;

/// One sending session's access to a mailbox: its credit.
pub(crate) struct Port {
    pub(crate) peer: Weak<PeerInner>,
    pub(crate) handle: u32,
    pub(crate) mailbox: Arc<MailboxShared>,
    /// Its place among the mailbox's ports.
    pub(super) index: u32,
    received: AtomicU64,
    taken: AtomicU64,
    given_up: AtomicU64,
    granted: AtomicU64,
}

impl Port {
    pub(super) fn new(
        peer: &Weak<PeerInner>,
        handle: u32,
        mailbox: &Arc<MailboxShared>,
        index: usize,
    ) -> Port {
        let granted = match mailbox.options.overflow {
            Overflow::DropOldest => u64::MAX,
            Overflow::Wait | Overflow::Fail | Overflow::DropNewest => u64::from(mailbox.options.capacity),
        };
        Port {
            peer: peer.clone(),
            handle,
            mailbox: mailbox.clone(),
            index: index as u32,
            received: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            granted: AtomicU64::new(granted),
        }
    }

    /// Whether its session is over, and nothing of it is left in the mailbox.
    pub(super) fn is_done_with(&self) -> bool {
        !self.is_live() && self.done() == self.received.load(Ordering::Acquire)
    }

    /// Whether its session may go on.
    pub(super) fn is_live(&self) -> bool {
        self.peer.strong_count() > 0
    }

    /// Messages that have come in, as far as others than the driving thread know.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Messages that have been taken, as far as others than the receiver know.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The sender's node; `None` when its session is over.
    pub(crate) fn sender(&self) -> Option<String> {
        self.peer.upgrade().map(|peer| peer.identity.node.clone())
    }

    /// Counts a message that has come in. False when the sender had no credit for it.
    #[inline]
    pub(crate) fn receive(&self) -> bool {
        // Written by the driving thread alone.
        let received = self.received.load(Ordering::Relaxed) + 1;
        self.received.store(received, Ordering::Relaxed);
        received <= self.granted.load(Ordering::Acquire)
    }

    /// How many messages the sender may send in all.
    pub(crate) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Acquire)
    }

    /// Counts a message that was taken.
    #[inline]
    pub(crate) fn take(&self) {
        // Written by the mailbox's only consumer.
        let taken = self.taken.load(Ordering::Relaxed) + 1;
        self.taken.store(taken, Ordering::Relaxed);
        self.grant();
    }

    /// Counts a message that its sender has given up half-way: it is as good as taken.
    pub(crate) fn give_up(&self) {
        self.forget_one();
        self.grant();
    }

    /// Counts a message that nobody will take: dropped, or one that is not going to come, of a session that is over.
    pub(crate) fn forget_one(&self) {
        self.given_up.fetch_add(1, Ordering::AcqRel);
    }

    fn done(&self) -> u64 {
        self.taken.load(Ordering::Acquire) + self.given_up.load(Ordering::Acquire)
    }

    /// Grants further credit when a quarter of it has been used. Of two threads that count at once each may miss the other's
    /// message, and neither grant: the next to count does. That there is a next, where the sender has no credit left, is
    /// certain: all of the window but one message is more than a quarter, so whoever counts the last one of it grants.
    #[inline]
    fn grant(&self) {
        let window = u64::from(self.mailbox.options.capacity);
        let limit = self.done() + window;
        let granted = self.granted.load(Ordering::Relaxed);
        if is_broken(Breakage::ForgetsCredit) {
            return;
        }
        if granted != u64::MAX && limit >= granted + (window / 4).max(1) {
            self.tell_grant(limit);
        }
    }

    #[cold]
    fn tell_grant(&self, limit: u64) {
        self.granted.fetch_max(limit, Ordering::AcqRel);
        if let Some(peer) = self.peer.upgrade() {
            peer.send_control(&Control::Credit {
                handle: self.handle,
                limit,
            });
        }
    }
}

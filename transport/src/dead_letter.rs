//! Dead letters: every message that was not delivered, where somebody can see it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use crate::wait::lock;

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The mailbox was full, and its policy drops the newest.
    DroppedNewest,
    /// The mailbox was full, and its policy drops the oldest.
    DroppedOldest,
    /// The mailbox was closed before the message was taken.
    MailboxClosed,
    /// The message was not acknowledged when the session ended. It may have been delivered: the acknowledgement may be
    /// what was lost.
    Unacknowledged,
    /// The message arrived and was no message of its mailbox's protocol. A dead letter at the receiver.
    Undecodable,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 5] = [
        Reason::DroppedNewest,
        Reason::DroppedOldest,
        Reason::MailboxClosed,
        Reason::Unacknowledged,
        Reason::Undecodable,
    ];
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::DroppedNewest => "mailbox full, newest dropped",
            Reason::DroppedOldest => "mailbox full, oldest dropped",
            Reason::MailboxClosed => "mailbox closed",
            Reason::Unacknowledged => "session ended before the message was acknowledged",
            Reason::Undecodable => "not a message of the mailbox's protocol",
        })
    }
}

/// A message that was not delivered.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// The node that the message was for; `None` for this one.
    pub node: Option<String>,
    /// The mailbox that the message was for.
    pub mailbox: String,
    /// The message's correlation id, if it had one.
    pub correlation: Option<u64>,
    /// Length of the message in bytes.
    pub len: usize,
    /// The message itself, where this node still has it. Never logged.
    pub payload: Option<Arc<[u8]>>,
}

/// How many of the latest dead letters are kept for [`DeadLetters::latest`].
pub const KEPT: usize = 64;

/// The dead letters of a node.
#[derive(Default)]
pub struct DeadLetters {
    counts: [AtomicU64; Reason::ALL.len()],
    latest: Mutex<VecDeque<DeadLetter>>,
    subscribers: Mutex<Vec<SyncSender<DeadLetter>>>,
    missed: AtomicU64,
}

impl DeadLetters {
    /// How many messages were not delivered, for any reason.
    pub fn count(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.count_of(*reason)).sum()
    }

    /// How many messages were not delivered for this reason.
    pub fn count_of(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// The latest dead letters, oldest first, at most [`KEPT`].
    pub fn latest(&self) -> Vec<DeadLetter> {
        lock(&self.latest).iter().cloned().collect()
    }

    /// Every dead letter from now on. The channel holds `capacity`; what does not fit is counted by
    /// [`DeadLetters::missed`], never waited for.
    pub fn subscribe(&self, capacity: usize) -> Receiver<DeadLetter> {
        let (sender, receiver) = sync_channel(capacity);
        lock(&self.subscribers).push(sender);
        receiver
    }

    /// How many dead letters found a subscriber's channel full.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self, letter: DeadLetter) {
        self.counts[letter.reason as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            reason = %letter.reason, node = letter.node, mailbox = letter.mailbox,
            correlation = letter.correlation, len = letter.len, "dead letter"
        );
        lock(&self.subscribers).retain(|subscriber| match subscriber.try_send(letter.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
        let mut latest = lock(&self.latest);
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(letter);
    }
}

//! Dead letters: every message that was not delivered, where somebody can see it.
//!
//! A letter is counted by its reason, told to subscribers, logged at debug level, and the latest are kept as a sample.
//! The message itself is in neither logs nor `Debug`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// An answer came when nobody waited for it any more. A dead letter at the asker.
    AnswerTooLate,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 6] = [
        Reason::DroppedNewest,
        Reason::DroppedOldest,
        Reason::MailboxClosed,
        Reason::Unacknowledged,
        Reason::Undecodable,
        Reason::AnswerTooLate,
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
            Reason::AnswerTooLate => "nobody waits for the answer any more",
        })
    }
}

/// A message that was not delivered.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Why.
    pub reason: Reason,
    /// The node that sent it; `None` for this one.
    pub from: Option<String>,
    /// The node that the message was for; `None` for this one.
    pub node: Option<String>,
    /// The mailbox that the message was for.
    pub mailbox: String,
    /// The protocol of its type, as the address or the mailbox has it; `None` for raw bytes, and for answers, whose types
    /// have none.
    pub protocol: Option<Cow<'static, str>>,
    /// How long ago it was sent (at the sender), or came in (at the receiver): at most this, to within a heartbeat at the
    /// sender and a timer tick at the receiver. `None` where nobody knows.
    pub age: Option<Duration>,
    /// The message's correlation id, if it had one.
    pub correlation: Option<u64>,
    /// Length of the message in bytes.
    pub len: usize,
    /// The message itself, where this node still has it. Neither logged nor in `Debug`.
    pub payload: Option<Arc<[u8]>>,
}

impl DeadLetter {
    /// A letter of which only this much is known: fill in what else is.
    pub fn new(reason: Reason, mailbox: impl Into<String>, len: usize) -> DeadLetter {
        DeadLetter {
            reason,
            from: None,
            node: None,
            mailbox: mailbox.into(),
            protocol: None,
            age: None,
            correlation: None,
            len,
            payload: None,
        }
    }
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter")
            .field("reason", &self.reason)
            .field("from", &self.from)
            .field("node", &self.node)
            .field("mailbox", &self.mailbox)
            .field("protocol", &self.protocol)
            .field("age", &self.age)
            .field("correlation", &self.correlation)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
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

    /// Adds a letter: for what is built on mailboxes and could not deliver either.
    pub fn report(&self, letter: DeadLetter) {
        self.counts[letter.reason as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            reason = %letter.reason, from = letter.from, node = letter.node, mailbox = letter.mailbox,
            protocol = letter.protocol.as_deref(), age = ?letter.age, correlation = letter.correlation,
            len = letter.len, "dead letter"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_never_shows_its_message() {
        let letter = DeadLetter {
            payload: Some(Arc::from(&b"secret"[..])),
            ..DeadLetter::new(Reason::MailboxClosed, "inbox", 6)
        };
        let shown = format!("{letter:?} {letter:#?}");
        assert!(!shown.contains("115") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn letters_are_counted_by_reason_sampled_and_told_to_those_who_subscribed() {
        let letters = DeadLetters::default();
        let subscriber = letters.subscribe(10);
        for number in 0..KEPT + 10 {
            letters.report(DeadLetter::new(
                Reason::ALL[number % Reason::ALL.len()],
                "inbox",
                number,
            ));
        }
        let counted: u64 = Reason::ALL.iter().map(|reason| letters.count_of(*reason)).sum();
        assert_eq!((letters.count(), counted), (KEPT as u64 + 10, KEPT as u64 + 10));
        let latest = letters.latest();
        assert_eq!(
            (latest.len(), latest[0].len, latest[KEPT - 1].len),
            (KEPT, 10, KEPT + 9)
        );
        assert_eq!(
            (subscriber.try_iter().count(), letters.missed()),
            (10, KEPT as u64)
        );
    }
}

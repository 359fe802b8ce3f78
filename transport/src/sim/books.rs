//! The books: what was sent, and what has become of it. They know nothing of how messages travel.

use std::collections::{BTreeMap, BTreeSet};

use crate::dead_letter::Reason;

/// A message on the books.
struct Entry {
    /// The life of the sending node: one from each start to its crash.
    life: u32,
    to: usize,
    inbox: usize,
    session: u128,
    sequence: u32,
    len: usize,
    delivered: bool,
    /// Reported at the sender.
    at_sender: Option<Reason>,
    /// Reported at the receiver.
    at_receiver: Option<Reason>,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) host: usize,
    pub(super) inbox: usize,
}

/// What was sent and what has become of it.
pub(super) struct Books {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    crashed: BTreeSet<u32>,
    /// The incarnations of the nodes that live.
    alive: BTreeSet<u64>,
    /// The newest sequence number delivered, by session, sending life, inbox, and opening of the inbox.
    newest: BTreeMap<(u128, u32, usize, u32), u32>,
    /// What is wrong, in words.
    pub(super) violations: Vec<String>,
    pub(super) delivered: u64,
    pub(super) letters: u64,
    /// Sessions that ended because the peer's process was gone.
    pub(super) gone: u64,
}

/// The bytes of message `id`: itself, then bytes that only it has; a third of all messages is zero there.
pub(super) fn payload(id: u64, len: usize) -> Vec<u8> {
    let byte = |at: usize| {
        if id.is_multiple_of(3) {
            0
        } else {
            (id as usize * 31 + at * 7) as u8
        }
    };
    let mut bytes: Vec<u8> = (0..len.max(8)).map(byte).collect();
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

impl Books {
    pub(super) fn new() -> Books {
        Books {
            entries: BTreeMap::new(),
            // As a correlation id, 0 is none.
            next: 1,
            crashed: BTreeSet::new(),
            alive: BTreeSet::new(),
            newest: BTreeMap::new(),
            violations: Vec::new(),
            delivered: 0,
            letters: 0,
            gone: 0,
        }
    }

    /// The number that the next message will have.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// Message `next_id` was sent.
    pub(super) fn sent(&mut self, life: u32, session: u128, sequence: u32, to: Destination, len: usize) {
        self.entries.insert(
            self.next,
            Entry {
                life,
                to: to.host,
                inbox: to.inbox,
                session,
                sequence,
                len,
                delivered: false,
                at_sender: None,
                at_receiver: None,
            },
        );
        self.next += 1;
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    /// An actor has taken a message.
    pub(super) fn taken(&mut self, at: Destination, opening: u32, bytes: &[u8], correlation: Option<u64>) {
        let id = bytes.first_chunk().map(|id| u64::from_le_bytes(*id));
        let Some((id, entry)) = id.and_then(|id| Some((id, self.entries.get_mut(&id)?))) else {
            return self.wrong(format!(
                "{at:?} was handed {} bytes that nobody sent",
                bytes.len()
            ));
        };
        let wrong = if (entry.to, entry.inbox) != (at.host, at.inbox) {
            "delivered to the wrong mailbox"
        } else if entry.delivered {
            "delivered twice"
        } else if entry.len != bytes.len() || payload(id, entry.len) != bytes {
            "delivered with other bytes"
        } else if correlation != Some(id) {
            "delivered with another correlation id"
        } else if entry
            .at_sender
            .is_some_and(|reason| reason != Reason::Unacknowledged)
            || entry.at_receiver.is_some()
        {
            "delivered after it was said to be dead"
        } else {
            ""
        };
        entry.delivered = true;
        self.delivered += 1;
        let key = (entry.session, entry.life, at.inbox, opening);
        let sequence = entry.sequence;
        if !wrong.is_empty() {
            self.wrong(format!("message {id}: {wrong} at {at:?}"));
        }
        let newest = self.newest.insert(key, sequence);
        if newest.is_some_and(|newest| newest >= sequence) {
            self.wrong(format!("message {id}: {sequence} came after {newest:?}"));
        }
    }

    /// A dead letter, at the sender of the message or at its receiver.
    pub(super) fn dead(&mut self, correlation: Option<u64>, reason: Reason, at_sender: bool) {
        self.letters += 1;
        let known = correlation.and_then(|id| Some((id, self.entries.get_mut(&id)?)));
        let Some((id, entry)) = known else {
            return self.wrong(format!(
                "dead letter ({reason}) for {correlation:?}, which nobody sent"
            ));
        };
        let side = if at_sender {
            &mut entry.at_sender
        } else {
            &mut entry.at_receiver
        };
        if let Some(before) = side.replace(reason) {
            self.wrong(format!(
                "message {id}: two dead letters on one side, {before} and {reason}"
            ));
        } else if entry.delivered && reason != Reason::Unacknowledged {
            self.wrong(format!(
                "message {id}: dead letter ({reason}), but it was delivered"
            ));
        }
    }

    /// A node has started.
    pub(super) fn started(&mut self, incarnation: u64) {
        self.alive.insert(incarnation);
    }

    /// A node has crashed, and with it the knowledge of what it sent.
    pub(super) fn crashed(&mut self, life: u32, incarnation: u64) {
        self.crashed.insert(life);
        self.alive.remove(&incarnation);
    }

    /// A session has ended because its peer's process was gone.
    pub(super) fn gone(&mut self, incarnation: u64) {
        self.gone += 1;
        if self.alive.contains(&incarnation) {
            self.wrong("a session ended because its peer was gone, and the peer lives".into());
        }
    }

    /// Messages of living senders that are neither delivered nor dead. That a mailbox was closed has to be known to the
    /// sender, too, where the session lives.
    pub(super) fn open(&self, living: &BTreeSet<u128>) -> Vec<u64> {
        let is_open = |entry: &Entry| {
            let at_receiver = match entry.at_receiver {
                Some(Reason::MailboxClosed) => !living.contains(&entry.session),
                reason => reason.is_some(),
            };
            !entry.delivered
                && entry.at_sender.is_none()
                && !at_receiver
                && !self.crashed.contains(&entry.life)
        };
        let open = self.entries.iter().filter(|(_, entry)| is_open(entry));
        open.map(|(id, _)| *id).collect()
    }

    /// Whether anything of this session was reported as not acknowledged.
    pub(super) fn any_unacknowledged(&self, session: u128, life: u32) -> bool {
        self.entries.values().any(|entry| {
            entry.session == session && entry.life == life && entry.at_sender == Some(Reason::Unacknowledged)
        })
    }

    /// How many messages from `first` on were delivered for `to`.
    pub(super) fn delivered_since(&self, first: u64, to: usize) -> usize {
        let since = self.entries.range(first..).map(|(_, entry)| entry);
        since.filter(|entry| entry.to == to && entry.delivered).count()
    }
}

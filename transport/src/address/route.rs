//! A mailbox of a peer as this node knows it: its handle, its limits, and the credit for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::SendError;
use super::slot::{Place, Slot};
use crate::breakage::{Breakage, is_broken};
use crate::chunk::Chunk;
use crate::dead_letter::{DeadLetter, Reason};
use crate::frame::Kind;
use crate::handshake::CAPABILITY_TRACES;
use crate::lane::Lane;
use crate::large::{LONGEST_ORDINARY, longest_chunk};
use crate::mailbox::Overflow;
use crate::observe::CreditObservation;
use crate::peer::PeerInner;
use crate::protocol::Asked;
use crate::ring::{Claim, ClaimError, Position};
use crate::trace::{Tagged, Tags};
use crate::wait::WaitList;
use crate::watch::Watchers;

/// What a handle of a peer stands for: for dead letters, as long as there may be any.
pub(crate) struct Label {
    pub(crate) mailbox: String,
    /// What is spoken to it; `None` for raw bytes.
    pub(crate) protocol: Option<Asked>,
    /// What goes here is a part of a stream, whose halves are told what becomes of it: it is no dead letter.
    pub(crate) carries_stream: bool,
}

impl Label {
    /// Of a mailbox that a stream is made of.
    pub(crate) fn of_a_stream(mailbox: String) -> Label {
        Label {
            mailbox,
            protocol: None,
            carries_stream: true,
        }
    }
}

/// A mailbox of a peer as this node knows it: its handle on the session, and the credit for it.
///
/// Whoever sends to the handle holds it. So once it is dropped, nothing more is sent there.
pub(crate) struct Route {
    pub(crate) peer: Arc<PeerInner>,
    pub(crate) label: Arc<Label>,
    pub(crate) handle: u16,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
    sent: AtomicU64,
    limit: AtomicU64,
    closed: AtomicBool,
    /// The peer waits to hear that nothing more is sent to the handle.
    forget_when_dropped: AtomicBool,
    /// The longest message that goes on the ordinary lane.
    pub(crate) longest_ordinary: usize,
    /// The longest that goes there and that the mailbox takes.
    longest_at_once: usize,
    /// The large lane holds messages to this mailbox up to here, so what is sent now has to go behind them; 0 when
    /// they are known to be consumed.
    behind: AtomicU64,
    /// A message in several chunks is on its way into the large lane.
    pub(crate) streaming: AtomicBool,
    pub(crate) room: WaitList,
    pub(crate) watchers: Watchers,
}

impl Drop for Route {
    fn drop(&mut self) {
        if *self.forget_when_dropped.get_mut() {
            self.peer.forget(self.handle);
        }
    }
}

/// What a peer says of one of its mailboxes when it is resolved.
pub(crate) struct Terms {
    pub(crate) handle: u16,
    pub(crate) limit: u64,
    pub(crate) overflow: Overflow,
    pub(crate) max_message: u32,
}

impl Route {
    pub(crate) fn new(peer: Arc<PeerInner>, label: Label, terms: Terms) -> Route {
        let ordinary = peer.send.ring(Lane::Ordinary).max_body();
        peer.large.allow(terms.max_message);
        let longest_ordinary = LONGEST_ORDINARY.min(ordinary - Tags::LONGEST);
        Route {
            longest_ordinary,
            longest_at_once: longest_ordinary.min(terms.max_message as usize),
            peer,
            label: Arc::new(label),
            handle: terms.handle,
            overflow: terms.overflow,
            max_message: terms.max_message,
            sent: AtomicU64::new(0),
            limit: AtomicU64::new(terms.limit),
            closed: AtomicBool::new(false),
            forget_when_dropped: AtomicBool::new(false),
            behind: AtomicU64::new(0),
            streaming: AtomicBool::new(false),
            room: WaitList::default(),
            watchers: Watchers::default(),
        }
    }

    pub(crate) fn observe(&self) -> CreditObservation {
        let (sent, limit) = (
            self.sent.load(Ordering::Relaxed),
            self.limit.load(Ordering::Relaxed),
        );
        CreditObservation {
            mailbox: self.label.mailbox.clone(),
            sent,
            left: (limit != u64::MAX).then(|| limit.saturating_sub(sent)),
        }
    }

    /// Takes over a grant of credit. A grant never goes back.
    pub(crate) fn grant(&self, limit: u64) {
        self.limit.fetch_max(limit, Ordering::AcqRel);
        self.room.wake_all();
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.wake_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The peer has closed its mailbox: it is told when nothing more is sent there.
    pub(crate) fn forget_when_dropped(&self) {
        self.forget_when_dropped.store(true, Ordering::Relaxed);
    }

    /// Takes credit for as many messages as there is, `wanted` at most. For how many.
    #[inline]
    fn take_credit(&self, wanted: u64) -> u64 {
        let mut sent = self.sent.load(Ordering::Relaxed);
        loop {
            let limit = self.limit.load(Ordering::Acquire);
            let taken = match is_broken(Breakage::SendsBeyondCredit) {
                true => wanted,
                false => limit.saturating_sub(sent).min(wanted),
            };
            if taken == 0 {
                return 0;
            }
            match self
                .sent
                .compare_exchange_weak(sent, sent + taken, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return taken,
                Err(now) => sent = now,
            }
        }
    }

    /// Gives credit for one message back.
    pub(crate) fn give_credit_back(&self) {
        self.give_back(1);
    }

    #[cold]
    fn give_back(&self, messages: u64) {
        self.sent.fetch_sub(messages, Ordering::Relaxed);
        self.room.wake_all();
    }

    /// Takes credit; false when the mailbox's policy drops the message.
    #[inline]
    pub(crate) fn take_credit_or_drop(&self) -> Result<bool, SendError> {
        if self.take_credit(1) == 1 {
            return Ok(true);
        }
        self.without_credit()
    }

    #[cold]
    fn without_credit(&self) -> Result<bool, SendError> {
        if self.overflow == Overflow::DropNewest {
            return Ok(false);
        }
        Err(SendError::MailboxFull {
            mailbox: self.label.mailbox.clone(),
        })
    }

    /// Whether a message of this length may be sent at all.
    #[inline]
    pub(crate) fn check(&self, len: usize) -> Result<(), SendError> {
        if len > self.max_message as usize || self.is_closed() {
            return Err(self.why_refused(len));
        }
        Ok(())
    }

    #[cold]
    fn why_refused(&self, len: usize) -> SendError {
        let max = self.max_message as usize;
        match len > max {
            true => SendError::TooLarge { len, max },
            false => self.why_closed(),
        }
    }

    /// Whether a message of this length goes in several chunks.
    #[inline]
    pub(super) fn is_streamed(&self, len: usize) -> bool {
        len > self.longest_ordinary && len > longest_chunk(self.peer.send.ring(Lane::Large))
    }

    /// Commits messages without tags: as many of the first of them as there are credit and room for, all with one step of
    /// credit and one claim. Leaves the pushing to the caller. Returns how many; where it is none, [`Route::claim`] of the
    /// first says why, or finds it another way.
    #[inline(always)]
    pub(super) fn commit_at_once(&self, messages: &[&[u8]]) -> usize {
        if self.is_closed() || self.behind.load(Ordering::Acquire) != 0 {
            return 0;
        }
        let short = messages
            .iter()
            .take_while(|message| message.len() <= self.longest_at_once)
            .count();
        let ring = self.peer.send.ring(Lane::Ordinary);
        let mut credit = 0;
        let mut take_credit = |wanted: usize| {
            credit = self.take_credit(wanted as u64) as usize;
            credit
        };
        let written = match &messages[..short] {
            [] => return 0,
            [_] if take_credit(1) == 0 => return 0,
            one @ [_] => ring.write(Kind::Message, self.handle, one, |fit| fit),
            // Credit for no more than there is room for: what is taken and given back, others miss in between, and a mailbox
            // that drops the newest drops theirs.
            several => ring.write(Kind::Message, self.handle, several, take_credit),
        };
        let committed = written.unwrap_or(0);
        if committed < credit {
            self.give_back((credit - committed) as u64);
        }
        committed
    }

    /// Takes credit and a slot. `None` when the mailbox's policy drops the message.
    ///
    /// Always inline: a slot that is handed up through memory costs more than all the rest.
    #[inline(always)]
    pub(crate) fn claim<T: Tagged>(&self, len: usize, tags: T) -> Result<Option<Slot<'_, T>>, SendError> {
        self.check(len)?;
        let tags = tags.understood(|| self.reads_traces());
        let large = len > self.longest_ordinary || self.is_behind();
        if !self.take_credit_or_drop()? {
            return Ok(None);
        }
        let claimed = if large {
            self.claim_chunk(len, &tags.tags())
        } else {
            let claim = self.peer.send.ring(Lane::Ordinary).claim(tags.tags().len() + len);
            claim.map(|claim| (claim, Place::Ordinary))
        };
        match claimed {
            Ok((claim, place)) => Ok(Some(Slot {
                claim,
                place,
                route: self,
                tags,
            })),
            Err(error) => Err(self.not_claimed(len, &error)),
        }
    }

    #[cold]
    fn not_claimed(&self, len: usize, error: &ClaimError) -> SendError {
        self.give_credit_back();
        match error {
            ClaimError::Full { .. } => SendError::RingFull,
            ClaimError::TooLarge { .. } => SendError::TooLongAtOnce {
                len,
                max: longest_chunk(self.peer.send.ring(Lane::Large)),
            },
            ClaimError::Closed => self.why_closed(),
        }
    }

    /// Commits a message of two parts, one after the other, and leaves the pushing to the caller.
    #[inline]
    pub(crate) fn commit_parts(&self, head: &[u8], rest: &[u8]) -> Result<(), SendError> {
        self.commit_with(head.len() + rest.len(), |payload| {
            let (first, second) = payload.split_at_mut(head.len());
            first.copy_from_slice(head);
            second.copy_from_slice(rest);
        })
    }

    /// Commits a message of this length, which `write` fills in, and leaves the pushing to the caller.
    #[inline]
    pub(crate) fn commit_with(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<(), SendError> {
        if let Some(mut slot) = self.claim(len, None)? {
            write(slot.payload());
            slot.commit();
        }
        Ok(())
    }

    /// Whether the peer reads trace contexts.
    pub(crate) fn reads_traces(&self) -> bool {
        self.peer.identity.capabilities & CAPABILITY_TRACES != 0
    }

    /// Whether messages to this mailbox are in the large lane, so that the next must not go past them.
    #[inline]
    fn is_behind(&self) -> bool {
        let until = self.behind.load(Ordering::Acquire);
        until != 0 && self.is_still_behind(until)
    }

    #[cold]
    fn is_still_behind(&self, until: Position) -> bool {
        if self.peer.send.ring(Lane::Large).released() < until {
            return true;
        }
        // Should somebody have sent another in the meantime, that one's end stays.
        let _ = self
            .behind
            .compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed);
        false
    }

    #[cold]
    fn claim_chunk(&self, len: usize, tags: &Tags<'_>) -> Result<(Claim<'_>, Place), ClaimError> {
        let ring = self.peer.send.ring(Lane::Large);
        let max = longest_chunk(ring);
        if len > max {
            return Err(ClaimError::TooLarge { len, max });
        }
        let claim = ring.claim(Chunk::extension_len(tags) + len)?;
        let place = Place::Large {
            after: self.keep_place(&claim),
            tell: len <= self.longest_ordinary,
        };
        Ok((claim, place))
    }

    /// The last frame of a message has been claimed in the large lane: what is sent to this mailbox from now on goes
    /// behind it. Returns up to where the ordinary lane has to be consumed before the message is delivered.
    pub(crate) fn keep_place(&self, claim: &Claim<'_>) -> Position {
        self.behind.fetch_max(claim.end(), Ordering::AcqRel);
        self.peer.send.ring(Lane::Ordinary).claimed()
    }

    pub(crate) fn is_worth_waiting(&self, error: &SendError) -> bool {
        error.is_worth_waiting(self.overflow)
    }

    /// Where those wait whom this error keeps from sending.
    pub(crate) fn waits(&self, error: &SendError) -> impl Iterator<Item = &WaitList> {
        let lists = match error {
            SendError::RingFull => [Some(&self.peer.room), Some(&self.peer.large.room)],
            _ => [Some(&self.room), None],
        };
        lists.into_iter().flatten()
    }

    pub(crate) fn register(&self, error: &SendError, waker: &Waker) {
        self.waits(error).for_each(|list| list.register(waker));
    }

    #[cold]
    pub(crate) fn why_closed(&self) -> SendError {
        match self.peer.ended() {
            Some(ended) => SendError::SessionOver(ended),
            None => SendError::MailboxClosed {
                mailbox: self.label.mailbox.clone(),
            },
        }
    }

    pub(crate) fn drop_newest(&self, len: usize, correlation: Option<u64>) {
        self.peer
            .node
            .questions
            .not_taken(correlation, self.peer.session_id);
        self.peer.report(DeadLetter {
            node: Some(self.peer.identity.node.clone()),
            protocol: self.label.protocol.as_ref().map(|asked| asked.name.clone()),
            age: Some(Duration::ZERO),
            correlation,
            ..DeadLetter::new(Reason::DroppedNewest, self.label.mailbox.clone(), len)
        });
    }
}

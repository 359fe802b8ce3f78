//! A change of link: losing one, stopping for another, going on over it; and the time in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PeerInner;
use super::acknowledging::Acknowledged;
use super::pushing::OVERWHELMED;
use super::receiving::Receive;
use crate::breakage::{Breakage, is_broken};
use crate::connect;
use crate::control::Control;
use crate::event::Event;
use crate::lane::{LANES, Lane};
use crate::link::{Link, LinkError};
use crate::ring::Position;
use crate::session::{Action, Ended, Time};
use crate::wait::{lock, try_lock};

/// A session without a link: what the peer may be told, and what makes sure that it is still true at the resumption.
pub(crate) struct Suspension {
    number: u64,
    /// Consumed of the peer's rings, by lane.
    pub(crate) consumed: [Position; LANES],
}

impl PeerInner {
    /// Drops the link. The session waits for another, or ends where none can come.
    pub(super) fn lose_link(self: &Arc<Self>, receive: &mut Receive) {
        self.gate.put(None);
        let had_link = receive.unlink();
        self.send.ring(Lane::Large).settle();
        self.blocked.store(false, Ordering::Relaxed);
        self.failed.swap(false, Ordering::AcqRel);
        let failure = lock(&self.failure).take();
        *lock(&self.link) = None;
        if self.ended.get().is_some() {
            return;
        }
        if had_link && receive.leaving {
            self.end(receive, Ended::Closed);
            return;
        }
        if self.overwhelmed.load(Ordering::Acquire) {
            self.end(receive, Ended::Violation(OVERWHELMED.into()));
            return;
        }
        if !had_link {
            return;
        }
        let cause = failure.map_or_else(|| "replaced".to_owned(), |error| error.to_string());
        if self.doorbell.get().is_some() {
            self.end(receive, Ended::Unresumable(cause));
            return;
        }
        self.wait_for_a_link(cause);
        connect::keep_linked(self);
    }

    /// A link was made at one of the session's addresses, over which the peer's own process was found to listen, if at all.
    pub(crate) fn found_listening(&self, at: usize, listens_at: Option<String>) {
        // What is known of a process stays true for as long as it lives.
        if listens_at.is_some() {
            lock(&self.listens_at)[at] = listens_at;
        }
    }

    /// Where the peer's own process listens, as far as is known of that address.
    pub(crate) fn listens_at(&self, at: usize) -> Option<String> {
        lock(&self.listens_at)[at].clone()
    }

    fn wait_for_a_link(&self, cause: String) {
        let now = self.node.now();
        let mut life = lock(&self.life);
        // What was heard over the old link counts for it, also since the last tick, and proves nothing of the next.
        if self.heard.swap(false, Ordering::Relaxed) {
            life.heard(now);
        }
        life.link_lost(now, cause.clone());
        drop(life);
        self.node.events.tell(Event::Suspended {
            node: self.identity.node.clone(),
            cause,
        });
    }

    /// Stops receiving and says what has been consumed so far: the first half of a change of link.
    pub(crate) fn suspend(self: &Arc<Self>) -> Suspension {
        let mut receive = self.receive_side();
        let receive = &mut *receive;
        self.gate.put(None);
        self.forget_failure();
        *lock(&self.link) = None;
        if receive.unlink() {
            self.wait_for_a_link("another link takes its place".into());
        }
        self.send.ring(Lane::Large).settle();
        receive.suspensions += 1;
        receive.lanes.held_up = false;
        let consumed = receive.lanes.rings.each_mut().map(|ring| {
            if !is_broken(Breakage::ForgetsToForget) {
                ring.forget_unconsumed();
            }
            ring.consumed()
        });
        Suspension {
            number: receive.suspensions,
            consumed,
        }
    }

    /// Goes on over another link: the second half. False when the session is over, or has been suspended again since:
    /// then the peer was told positions that no longer hold, and this link is not to be used.
    pub(crate) fn resume(
        &self,
        suspension: &Suspension,
        scheme: &str,
        link: Link,
        peer_consumed: [Position; LANES],
    ) -> Result<bool, String> {
        let mut receive = self.receive_side();
        if receive.suspensions != suspension.number || receive.link.is_some() {
            return Ok(false);
        }
        for lane in Lane::ALL {
            let (ring, position) = (self.send.ring(lane), peer_consumed[lane.index()]);
            if !ring.is_boundary(position) {
                return Err(format!(
                    "resumes the {lane:?} lane at position {position}, where no frame starts"
                ));
            }
            ring.release(position).map_err(|error| error.to_string())?;
        }
        self.room.wake_all();
        self.large.made_room(self);
        if self.ended.get().is_some() || !lock(&self.life).resumed(self.node.now()) {
            return Ok(false);
        }
        for lane in Lane::ALL {
            receive.lanes.ring(lane).resume(link.arrival.of(lane));
        }
        receive.lanes.credit = peer_consumed;
        receive.credited = peer_consumed;
        receive.link = Some(link.receiver);
        self.links.fetch_add(1, Ordering::AcqRel);
        receive.acknowledged = Acknowledged::default();
        let description = format!("{scheme} ({})", link.description);
        // From here on a failure is the new link's.
        self.forget_failure();
        self.send.ring(Lane::Large).lend(link.sender.gathers());
        self.gate.put(Some(link.sender));
        *lock(&self.link) = Some(description.clone());
        drop(receive);
        self.node.events.tell(Event::Resumed {
            node: self.identity.node.clone(),
            link: description,
        });
        self.node.attend();
        self.greet();
        Ok(true)
    }

    /// What failed was an earlier link's. That control messages have been lost is the session's, and stays.
    fn forget_failure(&self) {
        // A swap, so that it is known whether this thread has put out a failure of that kind.
        self.failed.swap(false, Ordering::AcqRel);
        lock(&self.failure).take();
        if self.overwhelmed.load(Ordering::Acquire) {
            self.fail_link(LinkError::Protocol(OVERWHELMED.into()));
        }
    }

    /// Says something over a new link, so that it is proven at once.
    pub(crate) fn greet(&self) {
        let control = self.send.ring(Lane::Control);
        if control.released() == control.claimed() {
            self.send_control(&Control::Heartbeat);
        } else {
            self.push();
        }
    }

    /// Keeps time: heartbeats, silence, the resume window. Returns when to come back.
    pub(crate) fn tick(self: &Arc<Self>, now: Time) -> Option<Time> {
        self.note_ages(now);
        loop {
            let (action, deadline) = {
                let mut life = lock(&self.life);
                let proven = self.heard.swap(false, Ordering::Relaxed) && life.heard(now);
                let due = (life.tick(now), life.deadline());
                drop(life);
                if proven {
                    self.link_changed.wake_all();
                }
                due
            };
            match action {
                None => return deadline,
                Some(Action::Beat) => {
                    let noted = try_lock(&self.receive)
                        .is_some_and(|mut receive| self.note_consumed(&mut receive, true));
                    self.beat(noted);
                }
                Some(Action::DropLink) => {
                    lock(&self.failure).get_or_insert(LinkError::TimedOut);
                    let mut receive = self.receive_side();
                    self.lose_link(&mut receive);
                }
                Some(Action::End(why)) => {
                    let mut receive = self.receive_side();
                    self.end(&mut receive, why);
                }
            }
        }
    }

    /// A heartbeat of the peer's has come: answers it, if ours would be due soon, with all acknowledgements.
    pub(super) fn answer_heartbeat(&self, receive: &mut Receive) {
        if lock(&self.life).answers(self.node.now()) {
            let noted = self.note_consumed(receive, true);
            self.beat(noted);
        }
    }

    /// Sends a heartbeat. It takes acknowledgements that are noted along, unless it waits for room, or for a bell rather
    /// than a push.
    fn beat(&self, noted: bool) {
        self.send_control(&Control::Heartbeat);
        if noted && (self.is_shared() || self.is_backlogged()) {
            self.push();
        }
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }
}

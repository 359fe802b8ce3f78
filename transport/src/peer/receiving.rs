//! Receiving: what the driving thread does for one session in its turn.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::acknowledging::Acknowledged;
use super::routes::Closing;
use super::{Handles, PeerInner};
use crate::assembly::Assembler;
use crate::breakage::{Breakage, is_broken};
use crate::drive::{Sleep, Turn};
use crate::lane::{LANES, Lane};
use crate::link::{LinkReceiver, ReceiveLanes};
use crate::mailbox::Direct;
#[cfg(feature = "tokio")]
use crate::on_tokio::{Closed, Telling, Told};
use crate::ring::Position;
use crate::session::Ended;
use crate::wait::{lock, try_lock};

/// What the driving thread owns of a session.
pub(crate) struct Receive {
    pub(crate) lanes: ReceiveLanes,
    /// What the runtime tells of the link, where it does.
    #[cfg(feature = "tokio")]
    pub(crate) told: Option<Told>,
    pub(crate) link: Option<Box<dyn LinkReceiver>>,
    /// The mailboxes that the peer may send to.
    pub(crate) handles: Handles,
    /// Messages of the large lane that have begun and are not complete.
    pub(crate) assembler: Assembler,
    /// The peer waits for the acknowledgement of what it sent on the large lane.
    pub(crate) tell_large: bool,
    /// The peer has sent a heartbeat that was not looked at whether to answer it.
    pub(crate) heartbeat: bool,
    /// Mailboxes of the peer that are closed and whose watchers are not told yet.
    pub(crate) closings: Vec<Closing>,
    /// The last turn left frames standing that had arrived.
    pub(crate) left_over: bool,
    /// What the peer is told of what was consumed.
    pub(super) acknowledged: Acknowledged,
    /// What the peer has acknowledged, as far as it has been taken over.
    pub(super) credited: [Position; LANES],
    /// The peer has said goodbye: it waits for acknowledgements, and its link may go at any time.
    pub(super) leaving: bool,
    /// Counts the suspensions: only the latest may be resumed.
    pub(super) suspensions: u64,
}

impl Receive {
    /// Lets go of the link: nothing that is still under way over it finds the rings. Whether there was one.
    pub(super) fn unlink(&mut self) -> bool {
        #[cfg(feature = "tokio")]
        {
            self.told = None;
        }
        let link = self.link.take();
        let was_linked = link.is_some();
        if is_broken(Breakage::KeepsTheOldEpoch) {
            std::mem::forget(link);
        }
        was_linked
    }

    /// Has the runtime tell of the link, if one does that. Whether it does.
    #[cfg(feature = "tokio")]
    pub(crate) fn tell(&mut self, telling: Option<&Telling>) -> bool {
        self.told = None;
        if let (Some(telling), Some(link)) = (telling, &self.link) {
            match telling.of(&link.descriptors(), !link.polls_memory()) {
                Ok(told) => self.told = Some(told),
                Err(error) => tracing::debug!(%error, "the runtime does not tell of a link; the poller does"),
            }
        }
        self.told.is_some()
    }

    /// Takes over what the runtime has told of the link.
    #[cfg(feature = "tokio")]
    fn hear(&mut self) {
        if let (Some(told), Some(link)) = (&self.told, &mut self.link)
            && let Some(Closed(closed)) = told.take()
        {
            link.told(closed);
        }
    }

    /// Whether the runtime has nothing to tell of the link that was not heard, and will wake the node when it has.
    fn is_quiet(&self, to_push: bool) -> bool {
        #[cfg(feature = "tokio")]
        if let Some(told) = &self.told {
            return told.is_quiet(to_push);
        }
        let _ = to_push;
        true
    }
}

/// Frames handled in one go before other peers have their turn.
const FRAMES_PER_TURN: usize = 512;

/// How often a link that has failed is asked for more, whatever its peer goes on to send.
const LAST_LOOKS: usize = 64;

impl PeerInner {
    /// Takes the receive side for a thread that is not the driver.
    pub(crate) fn receive_side(&self) -> MutexGuard<'_, Receive> {
        self.wanted.store(true, Ordering::Release);
        let guard = lock(&self.receive);
        self.wanted.store(false, Ordering::Release);
        guard
    }

    /// One turn: moves what arrived, hands it out, returns credit. One that may linger looks at memory for a little longer.
    pub(crate) fn turn(self: &Arc<Self>, direct: &mut Option<Direct<'_>>, linger: bool) -> Turn {
        match self.receive_in_turn() {
            Some(mut receive) => self.turn_with(&mut receive, direct, linger),
            None => Turn::Upkeep,
        }
    }

    /// As [`PeerInner::turn`] and [`PeerInner::prepare_to_sleep`], one behind the other.
    pub(crate) fn turn_and_prepare_to_sleep(
        self: &Arc<Self>,
        direct: &mut Option<Direct<'_>>,
    ) -> (Turn, Sleep) {
        match self.receive_in_turn() {
            Some(mut receive) => (
                self.turn_with(&mut receive, direct, false),
                self.arm(&mut receive),
            ),
            None => (Turn::Upkeep, Sleep::Light),
        }
    }

    /// Takes the receive side for the driver, unless somebody else has it or waits for it.
    #[inline]
    fn receive_in_turn(&self) -> Option<MutexGuard<'_, Receive>> {
        if self.wanted.load(Ordering::Acquire) {
            std::thread::yield_now();
            return None;
        }
        try_lock(&self.receive)
    }

    fn turn_with(
        self: &Arc<Self>,
        receive: &mut Receive,
        direct: &mut Option<Direct<'_>>,
        linger: bool,
    ) -> Turn {
        if self.failed.load(Ordering::Acquire) {
            self.hear_out(receive, direct);
            self.lose_link(receive);
            return Turn::Moved;
        }
        #[cfg(feature = "tokio")]
        receive.hear();
        let Receive { lanes, link, .. } = receive;
        let Some(link) = link else { return Turn::Nothing };
        let moved = match link.poll(lanes) {
            Ok(moved) => moved || linger && link.linger(lanes),
            Err(error) => {
                self.hand_out_the_rest(receive, direct);
                self.fail_link(error);
                self.lose_link(receive);
                return Turn::Moved;
            }
        };
        if self.blocked.load(Ordering::Relaxed) || self.postponed.is_left() {
            self.push();
        }
        if self.is_backlogged() {
            self.work_off_backlog();
        }
        if !moved && !receive.left_over {
            return Turn::Nothing;
        }
        let handed = self.take_credit(receive).and_then(|credit| {
            let frames = crate::dispatch::hand_out(self, receive, direct, FRAMES_PER_TURN)?;
            Ok((credit, frames))
        });
        let (credit, frames) = match handed {
            Ok(handed) => handed,
            Err(violation) => {
                self.end(receive, Ended::Violation(violation));
                return Turn::Moved;
            }
        };
        if frames != Turn::Nothing {
            self.heard.store(true, Ordering::Relaxed);
            self.written.store(0, Ordering::Relaxed);
        }
        let due = receive.leaving;
        self.acknowledge(receive, due);
        if std::mem::take(&mut receive.heartbeat) {
            self.answer_heartbeat(receive);
        }
        match (credit, frames) {
            // A part of a frame is progress: the rest may be there already, and nothing would tell of it again.
            (Turn::Nothing, Turn::Nothing) | (Turn::Moved, _) | (_, Turn::Moved) => Turn::Moved,
            _ => Turn::Upkeep,
        }
    }

    /// Takes what a link that has failed still has to say, as far as it has come: a goodbye, mostly.
    fn hear_out(self: &Arc<Self>, receive: &mut Receive, direct: &mut Option<Direct<'_>>) {
        // No credit goes over it any more, so that no more comes than there is room for.
        self.gate.put(None);
        let Receive { lanes, link, .. } = receive;
        let Some(link) = link else { return };
        for _ in 0..LAST_LOOKS {
            if !link.poll(lanes).is_ok_and(|moved| moved) {
                break;
            }
        }
        self.hand_out_the_rest(receive, direct);
    }

    /// What arrived before the link died still counts.
    fn hand_out_the_rest(self: &Arc<Self>, receive: &mut Receive, direct: &mut Option<Direct<'_>>) {
        let handed = crate::dispatch::hand_out(self, receive, direct, usize::MAX);
        if handed.is_ok_and(|turn| turn != Turn::Nothing) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Arms the link for a sleep of the driver.
    pub(crate) fn prepare_to_sleep(&self) -> Sleep {
        match try_lock(&self.receive) {
            Some(mut receive) => self.arm(&mut receive),
            None => Sleep::Light,
        }
    }

    fn arm(&self, receive: &mut Receive) -> Sleep {
        if self.failed.load(Ordering::Acquire) {
            return Sleep::No;
        }
        let Receive { lanes, link, .. } = receive;
        let Some(link) = link else { return Sleep::Sound };
        let armed = link.arm(lanes);
        let blocked = self.blocked.load(Ordering::Relaxed);
        match armed {
            Ok(true) if !receive.is_quiet(blocked) => Sleep::No,
            Ok(true) if blocked || self.is_backlogged() => Sleep::Light,
            Ok(true) => Sleep::Sound,
            Ok(false) => Sleep::No,
            Err(error) => {
                lock(&self.failure).get_or_insert(error);
                self.failed.store(true, Ordering::Release);
                Sleep::No
            }
        }
    }

    /// Takes over one acknowledgement that did not come in the way of the link.
    pub(crate) fn take_acknowledgement(
        &self,
        receive: &mut Receive,
        lane: Lane,
        consumed: Position,
    ) -> Result<(), String> {
        let credit = &mut receive.lanes.credit[lane.index()];
        *credit = consumed.max(*credit);
        self.take_credit(receive).map(drop)
    }

    /// Takes over the peer's acknowledgements, and wakes those who wait for room.
    pub(super) fn take_credit(&self, receive: &mut Receive) -> Result<Turn, String> {
        let mut any = Turn::Nothing;
        if receive.lanes.credit == receive.credited {
            return Ok(any);
        }
        for lane in Lane::ALL {
            let mut credit = receive.lanes.credit[lane.index()];
            if is_broken(Breakage::ReleasesTooMuch) && credit > receive.credited[lane.index()] {
                credit = self.send.ring(lane).committed(credit, u64::MAX);
            }
            if credit > receive.credited[lane.index()] {
                receive.credited[lane.index()] = credit;
                self.send
                    .ring(lane)
                    .release(credit)
                    .map_err(|error| error.to_string())?;
                self.heard.store(true, Ordering::Relaxed);
                any = match (any, lane) {
                    (Turn::Nothing | Turn::Upkeep, Lane::Control) => Turn::Upkeep,
                    _ => Turn::Moved,
                };
                match lane {
                    Lane::Control => {}
                    Lane::Ordinary => self.room.wake_all(),
                    Lane::Large => self.large.made_room(self),
                }
            }
        }
        Ok(any)
    }
}

//! Sleeping: what the driver looks at before it sleeps, whether it may, and what follows a sleep.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listening::ACCEPT_AGAIN;
use super::{Driver, FEW_PEERS};
use crate::node::NodeInner;

/// How soon a blocked push is tried again, should nothing else wake the driver.
const RETRY: Duration = Duration::from_millis(1);

impl Driver {
    /// Sleeps until something arrives, somebody wakes the node, or a deadline comes.
    pub(crate) fn sleep(&mut self, node: &NodeInner, until: Option<Instant>) {
        #[cfg(feature = "tokio")]
        if self.telling.is_some() {
            self.leave_to_the_poller();
            self.register_links();
        }
        if let Some(mut longest) = self.prepare_to_sleep(node) {
            if let Some(until) = until {
                longest = longest.min(until.saturating_duration_since(Instant::now()));
            }
            self.ask_for_readiness(Some(longest));
            self.rise();
        }
    }

    /// After a sleep: few peers are all polled again, of many those alone that told of something.
    pub(crate) fn rise(&mut self) {
        if self.peers.len() <= FEW_PEERS {
            self.wake_everybody();
        }
    }

    /// Looks around once more and arms every link. For how long it may sleep then; `None` where it may not.
    pub(crate) fn prepare_to_sleep(&mut self, node: &NodeInner) -> Option<Duration> {
        let now = node.now();
        self.look_around(node, now, &mut None);
        if self.is_stirred(node) {
            return None;
        }
        let next = self.next_tick.min(node.questions.earliest());
        let mut longest = next.saturating_sub(now);
        if self.listening.is_due() {
            longest = longest.min(ACCEPT_AGAIN);
        }
        match self.arm() {
            Sleep::Sound => {}
            Sleep::Light => longest = longest.min(RETRY),
            Sleep::No => return None,
        }
        self.alarm = now + longest;
        Some(longest)
    }

    /// Arms every link that is not armed.
    fn arm(&mut self) -> Sleep {
        let mut soundness = Sleep::Sound;
        for (place, driven) in self.peers.iter_mut().enumerate() {
            if driven.armed {
                continue;
            }
            let sleep = driven.peer.prepare_to_sleep();
            driven.armed = matches!(sleep, Sleep::Sound);
            // Whoever has something to do has a turn after the sleep, or instead of it.
            if !driven.armed && !std::mem::replace(&mut driven.awake, true) {
                self.awake.push(place);
            }
            match sleep {
                Sleep::Sound => {}
                Sleep::Light => soundness = Sleep::Light,
                Sleep::No => return Sleep::No,
            }
        }
        soundness
    }

    /// As [`Driver::prepare_to_sleep`], for a task that has slept on while others made a pass: without a look at the clock, as its
    /// alarm is set.
    #[cfg(feature = "tokio")]
    pub(crate) fn sleep_on(&mut self, node: &NodeInner) -> SleepOn {
        let earlier = self.next_tick.min(node.questions.earliest()) < self.alarm;
        if self.is_stirred(node) {
            return SleepOn::Stirred;
        }
        match self.arm() {
            Sleep::No => SleepOn::Stirred,
            Sleep::Light => SleepOn::Called,
            Sleep::Sound if earlier || self.listening.is_due() => SleepOn::Called,
            Sleep::Sound => SleepOn::Asleep,
        }
    }

    /// Whether something has changed that the next pass takes over.
    fn is_stirred(&self, node: &NodeInner) -> bool {
        self.version != node.peers_version.load(Ordering::Acquire)
            || node.closed.load(Ordering::Acquire)
            || self.unregistered
            || node.attention.load(Ordering::SeqCst)
    }

    /// After a sleep outside of [`Driver::sleep`] that the poller ended: asks it what for. It tells of that once.
    #[cfg(feature = "tokio")]
    pub(crate) fn woken(&mut self) {
        self.ask_for_readiness(Some(Duration::ZERO));
        self.rise();
    }
}

/// Whether a task sleeps on.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SleepOn {
    Asleep,
    /// Something has arrived.
    Stirred,
    /// The task has something to see to: its alarm would come too late, somebody has dialled, a push waits for room.
    Called,
}

/// How soundly the driver may sleep as far as one peer is concerned.
pub(crate) enum Sleep {
    /// Until something arrives.
    Sound,
    /// Not for long: a push waits for room.
    Light,
    /// Not at all: something has arrived.
    No,
}

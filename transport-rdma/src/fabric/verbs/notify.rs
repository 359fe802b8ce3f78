//! How a receiver that polls memory comes to sleep, and is woken.
//!
//! A receiver *wishes*, by a write to its peer's page of cells, that each push end with a write with immediate data
//! (a wake-up), which makes a completion and so an event. A wish is a number: an epoch, and whether wake-ups are on.
//! The sender reads the wish under the lock of its send queue, before each post, and puts the wish that it keeps to
//! into the immediate data: a wake-up *confirms* the wish that it carries. A new wish is also confirmed by itself,
//! as soon as the sender polls.
//!
//! # No wake-up is lost
//!
//! The receiver sleeps for an unbounded time only when its wish is confirmed, and after it has asked for an event,
//! then found no completion (nor a notice in its own hands, of an earlier look, that no poll has taken into its ring), then found its
//! rings and cells as it knew them. Let *c* be the post that confirmed.
//! A post of the peer either precedes *c* in the send queue or follows it.
//! - If it follows: the same lock orders the look at the wish after *c*'s, so it saw the same wish (a later one could
//!   only be the receiver's own, which it has not made); it ends with a wake-up, whose completion comes after the
//!   request for an event, and makes the channel readable, or came before it and was found. Or it is *quiet*, see below.
//! - If it precedes: writes of a reliable connection are carried out in order, and the completion of a write with
//!   immediate data at the receiver makes the data of all writes before it visible. The receiver had that completion
//!   in its hands before it looked at its rings; so it saw the bytes, and did not sleep.
//!
//! While its wish is not confirmed (the peer's process is busy elsewhere, or its queue is full), the receiver sleeps
//! for a bounded time only, by a timer, first 1 ms, then twice that, up to 64 ms. The peer confirms when it polls; if
//! it sleeps itself, its own wish makes our announcement wake it. So two idle ends confirm each other and stop.
//!
//! # What a sleeper sleeps on through
//!
//! The receiver asks for *solicited* events. Wake-ups and notices are sent as such, except that a write of the large lane is
//! *quiet* while more of the lane is committed behind it ([`crate::link`]): being woken by each chunk of a long message costs
//! the device of both ends more than the sleep is worth. What is committed is pushed, by this push or by the one that its
//! committer owes; so a write that is not quiet follows, or the link ends, which the receiver hears of otherwise. Nobody
//! waits for what a quiet write has brought: no more than an eighth of the ring goes out in such writes in a row, so the sender
//! is never out of room for them alone; and what else the sender posts, in a list with it, has a wake-up of its own.
//!
//! Wake-ups cost a little more than plain writes. They stay on over a sleep, so that a peer that answers now and then
//! costs no announcements, and are taken back when many have come without a sleep between them.

use std::time::Duration;

/// The bit of a wish that asks for wake-ups.
pub(crate) const ON: u32 = 1;

/// What this side wishes of its peer, and what it knows of the peer's wish.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notify {
    /// Epoch and [`ON`].
    wish: u32,
    /// The wish that was last written to the peer.
    announced: u32,
    /// Whether the peer has confirmed `wish`.
    confirmed: bool,
    /// The peer's wish that this side keeps to.
    pub(crate) obeyed: u32,
    /// Wake-ups since the last sleep.
    wakes: u32,
    /// The last bounded sleep.
    slept: Duration,
}

impl Notify {
    pub(crate) fn wish(&self) -> u32 {
        self.wish
    }

    /// Wishes for wake-ups, or for none any more. A new epoch, unless nothing changes.
    pub(crate) fn want(&mut self, on: bool) {
        if (self.wish & ON != 0) == on {
            return;
        }
        self.wish = (self.wish | ON).wrapping_add(1) | u32::from(on);
        self.confirmed = false;
        self.slept = Duration::ZERO;
        self.wakes = 0;
    }

    pub(crate) fn announced(&mut self) {
        self.announced = self.wish;
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced == self.wish
    }

    /// A wake-up came.
    pub(crate) fn woken(&mut self, immediate: u32) {
        self.wakes = self.wakes.saturating_add(1);
        if immediate == self.wish {
            self.confirmed = true;
        }
    }

    /// Whether completions are to be looked for at every poll.
    pub(crate) fn expects_wakes(&self) -> bool {
        self.wish & ON != 0
    }

    /// Whether wake-ups came all the time although nobody slept.
    pub(crate) fn is_tired(&self, limit: u32) -> bool {
        self.expects_wakes() && self.wakes >= limit
    }

    pub(crate) fn slept(&mut self) {
        self.wakes = 0;
    }

    /// How long to sleep at most; `None` for as long as it takes.
    pub(crate) fn patience(&mut self, [first, longest]: [Duration; 2]) -> Option<Duration> {
        if self.confirmed {
            return None;
        }
        self.slept = (self.slept * 2).clamp(first, longest);
        Some(self.slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLEEP: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(4)];

    #[test]
    fn a_sleep_is_bounded_until_the_very_wish_is_confirmed() {
        let mut notify = Notify::default();
        notify.want(true);
        let first = notify.wish();
        assert!(first & ON != 0 && !notify.is_announced());
        notify.announced();
        assert!(notify.is_announced());
        let sleeps: Vec<_> = (0..4)
            .map(|_| notify.patience(SLEEP).unwrap().as_millis())
            .collect();
        assert_eq!(sleeps, [1, 2, 4, 4]);
        notify.woken(first ^ 2);
        assert!(notify.patience(SLEEP).is_some(), "another wish was confirmed");
        notify.woken(first);
        assert_eq!(notify.patience(SLEEP), None);
    }

    #[test]
    fn every_change_is_a_new_epoch_that_needs_its_own_confirmation() {
        let mut notify = Notify::default();
        let mut seen = std::collections::HashSet::new();
        for round in 0..100 {
            notify.want(round % 2 == 0);
            assert!(seen.insert(notify.wish()));
            assert_eq!(notify.wish() & ON, u32::from(round % 2 == 0));
            assert!(notify.patience(SLEEP).is_some());
            let wish = notify.wish();
            notify.woken(wish);
            notify.want(round % 2 == 0);
            assert_eq!((notify.wish(), notify.patience(SLEEP)), (wish, None), "no change");
        }
    }

    #[test]
    fn wake_ups_without_sleep_tire() {
        let mut notify = Notify::default();
        notify.want(true);
        for _ in 0..9 {
            notify.woken(0);
        }
        assert!(!notify.is_tired(10));
        notify.slept();
        for _ in 0..10 {
            notify.woken(0);
        }
        assert!(notify.is_tired(10));
        notify.want(false);
        assert!(!notify.is_tired(10));
    }
}

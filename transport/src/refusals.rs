//! Whether a peer's process is gone: its host has refused to connect, at an address where that process itself listened.
//! Sans-IO: the time is an argument.
//!
//! A node listens for as long as it lives, and a session lives in one incarnation of a node: where nobody listens any more,
//! nobody is left who could go on with the session. That it is the peer's host who refuses is shown by a link that was made at that
//! address, whose two ends saw the same connection; a refusal of anybody else counts for nothing, and neither does silence. What no
//! address shows is a firewall that refuses in the host's name, so the refusals have to last.

use std::time::Duration;

use crate::session::Time;

/// The refusals of a session's peer, since it has no link.
pub(crate) struct Refusals {
    window: Option<Duration>,
    since: Option<Time>,
}

impl Refusals {
    /// `window`: how long refusals have to last; `None` where they never show anything.
    pub(crate) fn new(window: Option<Duration>) -> Refusals {
        Refusals { window, since: None }
    }

    /// Every address was dialled, and no link made: the peer's host has `refused`, or not. For how long it has, once that is long enough.
    pub(crate) fn round(&mut self, refused: bool, now: Time) -> Option<Duration> {
        if !refused {
            self.since = None;
            return None;
        }
        let lasted = now - *self.since.get_or_insert(now);
        self.window
            .is_some_and(|window| lasted >= window)
            .then_some(lasted)
    }

    /// Somebody has answered.
    pub(crate) fn answered(&mut self) {
        self.since = None;
    }

    /// When a further refusal would be the last.
    pub(crate) fn due(&self) -> Option<Time> {
        Some(self.since? + self.window?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn refusals_count_when_they_have_lasted_and_never_one_alone() {
        let mut refusals = Refusals::new(Some(100 * MS));
        assert_eq!(refusals.due(), None);
        assert_eq!(refusals.round(true, 500 * MS), None);
        assert_eq!(refusals.due(), Some(600 * MS));
        assert_eq!(refusals.round(true, 599 * MS), None);
        assert_eq!(refusals.round(true, 603 * MS), Some(103 * MS));
        let mut shortest = Refusals::new(Some(MS));
        assert_eq!(shortest.round(true, Time::ZERO), None);
        assert_eq!(shortest.round(true, MS), Some(MS));
    }

    #[test]
    fn any_other_outcome_begins_the_account_anew() {
        let mut refusals = Refusals::new(Some(100 * MS));
        for interrupt in [
            |refusals: &mut Refusals| assert_eq!(refusals.round(false, 50 * MS), None),
            |refusals: &mut Refusals| refusals.answered(),
        ] {
            assert_eq!(refusals.round(true, Time::ZERO), None);
            interrupt(&mut refusals);
            assert_eq!(refusals.due(), None);
            assert_eq!(refusals.round(true, 100 * MS), None);
            assert_eq!(refusals.round(true, 199 * MS), None);
            refusals.answered();
        }
    }

    #[test]
    fn without_a_window_they_never_count() {
        let mut refusals = Refusals::new(None);
        for second in 0..1_000 {
            assert_eq!(refusals.round(true, second * 1_000 * MS), None);
            assert_eq!(refusals.due(), None);
        }
    }
}

//! The life of a session: connected, suspended while it has no link, over. Sans-IO: no socket, no clock, no thread;
//! the time is an argument, and what is to be done comes back. See `docs/PROTOCOL.md`, "Sessions".

use std::time::Duration;

use crate::breakage::{Breakage, is_broken};

/// A point in time, as the duration since the node started.
pub type Time = Duration;

/// A heartbeat may go so much early, as a part of its interval: whoever drives many sessions and comes for one of them
/// serves those as well that are due soon.
const EARLY: u32 = 4;

/// The times that rule a session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a sign of life is sent, at least. Default 500 ms.
    pub heartbeat: Duration,
    /// How long a peer may be silent before its link is given up. Default 3 s, at least twice the heartbeat.
    pub silence: Duration,
    /// How long a session waits without a link before it is over. Default 10 s; where the peer's own host says that it is gone, less:
    /// [`crate::NodeBuilder::refused_window`]. Over shared memory, where no other link can come: how much longer than `silence` the
    /// peer may be silent.
    pub resume_window: Duration,
    /// How often a session that had to take a lesser link tries a better one. Default 1 s.
    pub better_link: Duration,
}

impl Timing {
    /// The shortest and the longest of any of the times.
    pub const LIMITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(30 * 24 * 3600));

    /// How long a new link may carry nothing before it is given up: half the silence.
    pub fn proof(&self) -> Duration {
        self.silence / 2
    }

    /// Whether every time is within the limits and the silence is at least twice the heartbeat.
    pub fn is_valid(&self) -> bool {
        let (shortest, longest) = Timing::LIMITS;
        [self.heartbeat, self.silence, self.resume_window, self.better_link]
            .iter()
            .all(|time| (shortest..=longest).contains(time))
            && self.silence >= self.heartbeat * 2
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(500),
            silence: Duration::from_secs(3),
            resume_window: Duration::from_secs(10),
            better_link: Duration::from_secs(1),
        }
    }
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// No link came back within the resume window.
    #[error("the peer was out of reach for longer than the resume window ({0})")]
    ResumeWindow(String),
    /// Nobody listens any more where the peer's process listened: nobody is left who could go on with the session.
    #[error("the peer is gone: its host has refused to connect to {address} for {} ms", refused.as_millis())]
    Gone {
        /// Where it listened.
        address: String,
        /// For how long: [`crate::NodeBuilder::refused_window`] or more.
        refused: Duration,
    },
    /// The peer said goodbye, or we did.
    #[error("the session was closed")]
    Closed,
    /// The peer does not know the session any more.
    #[error("the peer was restarted or has forgotten the session")]
    Forgotten,
    /// The peer sent what no correct peer sends.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The link can't be resumed, because both ends of it were in the peer's process.
    #[error("the link over shared memory was lost, and the session with it ({0})")]
    Unresumable(String),
}

/// Where a session is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A link has been made, and nothing has come over it yet. The resume window runs on.
    Trying {
        /// When it is over, if nothing comes.
        until: Time,
    },
    /// A link carries it.
    Connected,
    /// It waits for a link, until the given time.
    Suspended {
        /// When it is over.
        until: Time,
        /// Why the last link died.
        cause: String,
    },
    /// It is over.
    Ended(Ended),
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a heartbeat and the acknowledgements due.
    Beat,
    /// The peer has been silent for too long, or nothing came over a new link: drop the link.
    DropLink,
    /// The session is over: return what is unacknowledged to its senders.
    End(Ended),
}

/// The life of one session.
#[derive(Clone, Debug)]
pub struct Session {
    timing: Timing,
    phase: Phase,
    /// Since when there has been this link, or something was heard over it.
    heard: Time,
    beat: Time,
    /// No other link can come.
    is_only_link: bool,
}

impl Session {
    /// A session whose first link has just been made. It has as long to prove itself as a link that works may be silent,
    /// however short the resume window: the peer may have just been started.
    pub fn connected(timing: Timing, now: Time) -> Session {
        Session {
            timing,
            phase: Phase::Trying {
                until: now + timing.resume_window.max(timing.silence),
            },
            heard: now,
            beat: now,
            is_only_link: false,
        }
    }

    /// A session that ends with this link, whose end is told when the peer's process dies: a silent peer stands still, and is
    /// waited for as long as one whose session waits for a link.
    pub fn of_this_link_only(self) -> Session {
        Session {
            is_only_link: true,
            ..self
        }
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Something has come from the peer over the present link. True when that proves the link.
    pub fn heard(&mut self, now: Time) -> bool {
        self.heard = self.heard.max(now);
        let proves = matches!(self.phase, Phase::Trying { .. });
        if proves {
            self.phase = Phase::Connected;
        }
        proves
    }

    /// The link died. Nothing happens when the session has none or is over.
    pub fn link_lost(&mut self, now: Time, cause: String) {
        let until = match self.phase {
            Phase::Connected => now + self.timing.resume_window,
            // What was never heard over has not brought the session back.
            Phase::Trying { until } => until,
            Phase::Suspended { .. } | Phase::Ended(_) => return,
        };
        self.phase = Phase::Suspended { until, cause };
    }

    /// Another link carries the session, if the peer is heard over it. False when the session is over: nothing brings
    /// it back.
    pub fn resumed(&mut self, now: Time) -> bool {
        let until = match self.phase {
            Phase::Connected => now + self.timing.resume_window,
            Phase::Trying { until } | Phase::Suspended { until, .. } => until,
            Phase::Ended(_) => return false,
        };
        self.phase = Phase::Trying { until };
        (self.heard, self.beat) = (now, now);
        true
    }

    /// The session is over. The first reason stands.
    pub fn end(&mut self, why: Ended) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(why);
        }
    }

    /// How long the present link may be silent.
    fn patience(&self) -> Duration {
        match self.phase {
            _ if self.is_only_link => self.timing.silence + self.timing.resume_window,
            Phase::Trying { .. } => self.timing.proof(),
            _ => self.timing.silence,
        }
    }

    /// What is to be done at this time. Ask until nothing comes back.
    pub fn tick(&mut self, now: Time) -> Option<Action> {
        if is_broken(Breakage::NeverGivesUp) {
            self.heard = now;
        }
        match &self.phase {
            Phase::Trying { until } if now >= *until => {
                Some(self.window_passed("nothing came over the last link".into()))
            }
            Phase::Suspended { until, cause } if now >= *until => {
                let cause = cause.clone();
                Some(self.window_passed(cause))
            }
            Phase::Trying { .. } | Phase::Connected if now >= self.heard + self.patience() => {
                let silence = now - self.heard;
                self.link_lost(now, format!("silent for {} ms", silence.as_millis()));
                Some(Action::DropLink)
            }
            Phase::Trying { .. } | Phase::Connected
                if now + self.timing.heartbeat / EARLY >= self.beat + self.timing.heartbeat =>
            {
                self.beat = now;
                Some(Action::Beat)
            }
            _ => None,
        }
    }

    /// The peer's heartbeat has come. True when ours is to go at once rather than later: then both ends are awake at the
    /// same time, and rest together until the next. Of two that send at least every three quarters of the interval, one
    /// always finds the other's last one older than a third.
    pub fn answers(&mut self, now: Time) -> bool {
        let answers = matches!(self.phase, Phase::Trying { .. } | Phase::Connected)
            && now >= self.beat + self.timing.heartbeat / 3;
        if answers {
            self.beat = now;
        }
        answers
    }

    fn window_passed(&mut self, cause: String) -> Action {
        let why = Ended::ResumeWindow(cause);
        self.end(why.clone());
        Action::End(why)
    }

    /// When [`Session::tick`] has to be asked at the latest, if nothing is heard before.
    pub fn deadline(&self) -> Option<Time> {
        let of_the_link = (self.heard + self.patience()).min(self.beat + self.timing.heartbeat);
        match &self.phase {
            Phase::Trying { until } => Some(of_the_link.min(*until)),
            Phase::Connected => Some(of_the_link),
            Phase::Suspended { until, .. } => Some(*until),
            Phase::Ended(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMING: Timing = Timing {
        heartbeat: Duration::from_millis(10),
        silence: Duration::from_millis(30),
        resume_window: Duration::from_millis(100),
        better_link: Duration::from_millis(10),
    };

    fn heard_at_once() -> Session {
        let mut session = Session::connected(TIMING, Time::ZERO);
        assert!(session.heard(Time::ZERO));
        session
    }

    #[test]
    fn times_that_would_spin_overflow_or_drop_a_live_peer_are_not_valid() {
        assert!(Timing::default().is_valid() && TIMING.is_valid());
        let changed = |change: fn(&mut Timing)| {
            let mut timing = TIMING;
            change(&mut timing);
            timing.is_valid()
        };
        assert!(!changed(|timing| timing.heartbeat = Duration::ZERO));
        assert!(!changed(|timing| timing.resume_window = Duration::MAX));
        assert!(!changed(|timing| timing.silence = timing.heartbeat));
    }

    #[test]
    fn beats_at_its_interval_and_gives_up_a_silent_link_at_its_deadline() {
        let mut session = heard_at_once();
        let mut actions = Vec::new();
        for now in 0..=30 {
            while let Some(action) = session.tick(now * MS) {
                actions.push((now, action));
            }
        }
        assert_eq!(
            actions,
            [
                (8, Action::Beat),
                (16, Action::Beat),
                (24, Action::Beat),
                (30, Action::DropLink)
            ]
        );
        assert!(matches!(session.phase(), Phase::Suspended { until, .. } if *until == 130 * MS));
    }

    #[test]
    fn a_heartbeat_is_answered_when_a_third_of_the_interval_is_over_and_the_answer_counts_as_ours() {
        let mut session = heard_at_once();
        assert!(!session.answers(3 * MS));
        assert!(session.answers(4 * MS));
        // What answers an answer would never end.
        assert!(!session.answers(5 * MS));
        assert_eq!(session.tick(11 * MS), None);
        assert_eq!(session.tick(12 * MS), Some(Action::Beat));
        session.link_lost(16 * MS, "reset".into());
        assert!(!session.answers(30 * MS));
    }

    #[test]
    fn two_ends_come_to_send_their_heartbeats_together() {
        for apart in 0..10 {
            let mut ends = [heard_at_once(), Session::connected(TIMING, apart * MS)];
            let mut beats = [Vec::new(), Vec::new()];
            for now in (apart..1_100).map(|now| now * MS) {
                for (this, other) in [(0, 1), (1, 0)] {
                    ends[this].heard(now);
                    while let Some(action) = ends[this].tick(now) {
                        assert_eq!(action, Action::Beat);
                        beats[this].push(now);
                        if ends[other].answers(now) {
                            beats[other].push(now);
                        }
                    }
                }
            }
            let [one, other] = beats;
            // From the third on, whichever of the two sets the pace.
            let last = one.len().min(other.len()) - 2;
            assert!(last >= 100);
            assert_eq!(
                one[one.len() - last..],
                other[other.len() - last..],
                "{apart} ms apart"
            );
        }
    }

    #[test]
    fn a_session_heard_in_time_lives_on() {
        let mut session = heard_at_once();
        for now in 0..1_000 {
            if now % 29 == 0 {
                session.heard(now * MS);
            }
            assert_ne!(session.tick(now * MS), Some(Action::DropLink));
        }
    }

    #[test]
    fn a_suspended_session_ends_once_at_its_window_and_never_comes_back() {
        let mut session = heard_at_once();
        session.link_lost(5 * MS, "reset".into());
        assert_eq!(session.deadline(), Some(105 * MS));
        assert_eq!(session.tick(104 * MS), None);
        assert_eq!(
            session.tick(105 * MS),
            Some(Action::End(Ended::ResumeWindow("reset".into())))
        );
        assert_eq!(session.tick(106 * MS), None);
        assert!(!session.resumed(107 * MS));
        assert_eq!(session.deadline(), None);
    }

    #[test]
    fn a_link_that_nothing_comes_over_is_given_up_early_and_buys_the_session_no_time() {
        let mut session = heard_at_once();
        session.link_lost(5 * MS, "reset".into());
        for attempt in 0..6 {
            let linked = 10 * MS + attempt * 15 * MS;
            assert!(session.resumed(linked));
            assert_eq!(session.tick(linked + 10 * MS), Some(Action::Beat));
            assert_eq!(session.tick(linked + 14 * MS), None);
            assert_eq!(session.tick(linked + 15 * MS), Some(Action::DropLink));
        }
        assert!(session.resumed(101 * MS));
        assert!(matches!(
            session.tick(105 * MS),
            Some(Action::End(Ended::ResumeWindow(_)))
        ));
    }

    #[test]
    fn a_first_link_has_the_silence_to_prove_itself_where_the_resume_window_is_shorter() {
        let timing = Timing {
            resume_window: 5 * MS,
            ..TIMING
        };
        let mut session = Session::connected(timing, Time::ZERO);
        assert_eq!(session.tick(14 * MS), Some(Action::Beat));
        assert!(session.heard(14 * MS));
        session.link_lost(15 * MS, "reset".into());
        assert!(matches!(session.tick(20 * MS), Some(Action::End(_))));
        let mut session = Session::connected(timing, Time::ZERO);
        assert_eq!(session.tick(15 * MS), Some(Action::DropLink));
        assert_eq!(session.tick(29 * MS), None);
        assert!(matches!(session.tick(30 * MS), Some(Action::End(_))));
    }

    #[test]
    fn a_link_that_no_other_can_follow_may_be_silent_for_the_resume_window_as_well() {
        let mut session = Session::connected(TIMING, Time::ZERO).of_this_link_only();
        let quiet = |session: &mut Session, now: u32| {
            while let Some(action) = session.tick(now * MS) {
                assert_eq!(action, Action::Beat, "at {now} ms");
            }
        };
        quiet(&mut session, 99);
        assert!(session.heard(99 * MS));
        quiet(&mut session, 228);
        assert_eq!(session.tick(229 * MS), Some(Action::DropLink));
        let mut never_heard = Session::connected(TIMING, Time::ZERO).of_this_link_only();
        quiet(&mut never_heard, 99);
        assert!(matches!(never_heard.tick(100 * MS), Some(Action::End(_))));
    }

    #[test]
    fn a_link_that_is_heard_over_starts_every_deadline_anew() {
        let mut session = heard_at_once();
        session.link_lost(5 * MS, "reset".into());
        assert!(session.resumed(90 * MS));
        assert!(session.heard(104 * MS));
        assert!(!session.heard(104 * MS));
        assert_eq!(session.tick(105 * MS), Some(Action::Beat));
        session.link_lost(106 * MS, "reset".into());
        assert_eq!(session.deadline(), Some(206 * MS));
    }
}

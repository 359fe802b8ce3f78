//! Which of a session's addresses to dial, and when: the best that answers and carries. Sans-IO: the time is an argument.
//!
//! That an address answers does not show that its link carries: a device's handshake may go over another network than
//! its data. So a link that nothing came over, or that died young, puts its address on the bench for a time that
//! doubles; it is then tried last, and not at all to replace a link that works.

use std::time::Duration;

use crate::session::{Time, Timing};

/// The longest time on the bench, in steps of [`Timing::better_link`].
const LONGEST_BENCH: u32 = 64;

#[derive(Clone, Copy, Default)]
struct Candidate {
    failures: u32,
    benched_until: Time,
    looked: Time,
}

/// The addresses of one session, best first, and how their links have done.
pub(crate) struct Candidates {
    all: Vec<Candidate>,
    timing: Timing,
}

impl Candidates {
    pub(crate) fn new(addresses: usize, timing: Timing) -> Candidates {
        Candidates {
            all: vec![Candidate::default(); addresses],
            timing,
        }
    }

    /// A link to this address was made at `since` and is gone; `proven` says whether anything came over it.
    pub(crate) fn link_lost(&mut self, at: usize, since: Time, proven: bool, now: Time) {
        let candidate = &mut self.all[at];
        if proven && now.saturating_sub(since) >= self.timing.better_link {
            *candidate = Candidate::default();
            return;
        }
        let steps = 1 << candidate.failures.min(LONGEST_BENCH.trailing_zeros());
        candidate.failures += 1;
        candidate.benched_until = now + self.timing.better_link * steps;
    }

    /// The order in which to dial while the session has no link.
    pub(crate) fn in_order(&self, now: Time) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|at| now < self.all[*at].benched_until);
        order
    }

    /// The best address before `current` whose turn it is to be looked at.
    pub(crate) fn better_than(&mut self, current: usize, now: Time) -> Option<usize> {
        let at = (0..current).find(|at| self.next_look(*at) <= now)?;
        self.all[at].looked = now;
        Some(at)
    }

    /// When [`Candidates::better_than`] has something to try.
    pub(crate) fn when_to_look(&self, current: usize) -> Option<Time> {
        (0..current).map(|at| self.next_look(at)).min()
    }

    /// A link over `current` runs: what is better is looked at after a while.
    pub(crate) fn settled(&mut self, current: usize, now: Time) {
        for candidate in &mut self.all[..current] {
            candidate.looked = candidate.looked.max(now);
        }
    }

    fn next_look(&self, at: usize) -> Time {
        (self.all[at].looked + self.timing.better_link).max(self.all[at].benched_until)
    }
}

/// The pauses between rounds of dialling: doubled from the first to the longest, and of each a random part, from a half to all of
/// it, so that those who lost one hub at the same moment do not all come back at the same moment.
pub(crate) struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(500);

    pub(crate) fn new() -> Pause {
        Pause(Pause::FIRST)
    }

    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let half = self.0 / 2;
        self.0 = (self.0 * 2).min(Pause::LONGEST);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn two() -> Candidates {
        let timing = Timing {
            better_link: 10 * MS,
            ..Timing::default()
        };
        Candidates::new(2, timing)
    }

    #[test]
    fn the_best_address_comes_first_and_one_whose_link_carried_nothing_last() {
        let mut candidates = two();
        assert_eq!(candidates.in_order(Time::ZERO), [0, 1]);
        candidates.link_lost(0, Time::ZERO, false, 5 * MS);
        assert_eq!(candidates.in_order(6 * MS), [1, 0]);
        assert_eq!(candidates.in_order(15 * MS), [0, 1]);
    }

    #[test]
    fn a_link_that_keeps_failing_is_looked_at_ever_more_rarely_and_one_that_stood_is_forgiven() {
        let mut candidates = two();
        let mut now = Time::ZERO;
        let mut gaps = Vec::new();
        for _ in 0..9 {
            candidates.link_lost(0, now, false, now);
            let next = candidates.when_to_look(1).unwrap();
            assert_eq!(candidates.better_than(1, next - MS), None);
            assert_eq!(candidates.better_than(1, next), Some(0));
            gaps.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(gaps, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
        candidates.link_lost(0, now, true, now + 10 * MS);
        assert_eq!(candidates.in_order(now + 10 * MS), [0, 1]);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_no_two_who_begin_together_need_pause_alike() {
        let (mut least, mut most) = (Pause::new(), Pause::new());
        let pauses: Vec<_> = (0..9).map(|_| (least.next(0), most.next(u32::MAX))).collect();
        let longest: Vec<_> = pauses.iter().map(|(_, most)| most.as_millis()).collect();
        assert_eq!(longest, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
        assert!(
            pauses.iter().all(|(least, most)| *least * 2 == *most),
            "{pauses:?}"
        );
    }

    #[test]
    fn what_is_better_is_looked_at_once_in_every_interval() {
        let mut candidates = two();
        candidates.settled(1, Time::ZERO);
        assert_eq!(candidates.better_than(1, 9 * MS), None);
        assert_eq!(candidates.better_than(1, 10 * MS), Some(0));
        assert_eq!(candidates.better_than(1, 19 * MS), None);
        assert_eq!(candidates.better_than(1, 20 * MS), Some(0));
        assert_eq!(candidates.when_to_look(0), None);
    }
}

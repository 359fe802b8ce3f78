//! How old a message in a send ring is: now and then it is noted how far the ring was claimed, so a position lies between
//! two times.

use std::collections::VecDeque;
use std::time::Duration;

use super::PeerInner;
use crate::lane::Lane;
use crate::ring::Position;
use crate::session::Time;
use crate::wait::lock;

/// Notes kept at most: with one at each heartbeat, as many as a resume window has many times over.
const NOTES: usize = 256;

#[derive(Default)]
pub(super) struct Ages {
    /// Claimed positions, each with when it was seen; both rise.
    notes: VecDeque<(Position, Time)>,
}

impl Ages {
    /// Notes how far the ring is claimed now, and forgets what says nothing of what is still kept from `released` on.
    pub(super) fn note(&mut self, claimed: Position, released: Position, now: Time) {
        while self
            .notes
            .get(1)
            .is_some_and(|(position, _)| *position <= released)
        {
            self.notes.pop_front();
        }
        match self.notes.back_mut() {
            // Nothing new was claimed since: whatever comes next comes later than this.
            Some((position, seen)) if *position == claimed => *seen = now,
            _ => {
                if self.notes.len() == NOTES {
                    // An older bound takes the place of what is forgotten.
                    self.notes.remove(1);
                }
                self.notes.push_back((claimed, now));
            }
        }
    }

    /// How old the message at `position` is at most; `None` when that is unknown.
    pub(super) fn at_most(&self, position: Position, now: Time) -> Option<Duration> {
        let before = self.notes.iter().rev().find(|(claimed, _)| *claimed <= position);
        before.map(|(_, seen)| now.saturating_sub(*seen))
    }
}

impl PeerInner {
    pub(super) fn note_ages(&self, now: Time) {
        let mut ages = lock(&self.ages);
        for lane in [Lane::Ordinary, Lane::Large] {
            let ring = self.send.ring(lane);
            ages[lane.index()].note(ring.claimed(), ring.released(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_age_is_never_less_than_the_truth_and_at_most_one_note_more() {
        let mut ages = Ages::default();
        // Ten bytes each millisecond; a note every seven.
        for now in 0..100u32 {
            if now % 7 == 0 {
                ages.note(u64::from(now) * 10, 200, now * MS);
            }
        }
        for sent in 20..100u32 {
            let age = ages.at_most(u64::from(sent) * 10, 100 * MS).expect("known");
            let truth = (100 - sent) * MS;
            assert!(age >= truth && age <= truth + 7 * MS, "sent at {sent}: {age:?}");
        }
    }

    #[test]
    fn what_is_sent_after_a_quiet_time_is_young_and_the_notes_are_bounded() {
        let mut ages = Ages::default();
        assert_eq!(ages.at_most(0, MS), None);
        for now in 0..1_000 {
            ages.note(0, 0, now * MS);
        }
        assert_eq!(ages.at_most(0, 1_000 * MS), Some(MS));
        for now in 0..1_000u32 {
            ages.note(u64::from(now), 0, (1_000 + now) * MS);
        }
        assert!(ages.notes.len() <= NOTES && ages.at_most(0, 2_000 * MS).is_some());
    }
}

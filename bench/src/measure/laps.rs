//! The durations of a round's exchanges, one tick reading for each.
//!
//! A lap ends where the next begins, so nothing that happens between two exchanges goes unseen. Laps are kept
//! in a small buffer that was touched before and moved to the histogram when it is full: neither a page fault
//! nor the histogram's own cost falls into a lap.

use hdrhistogram::Histogram;

use super::{Figures, Metric};
use crate::clock;

const BUFFERED_LAPS: usize = 8192;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A longer lap counts as one of this length: a bench gives up on a stalled link before.
const LONGEST_LAP_NS: u64 = 60_000_000_000;

/// Collects laps in nanoseconds.
pub(crate) struct Laps {
    ticks: Box<[u64]>,
    filled: usize,
    last: u64,
    ns_per_tick: f64,
    histogram: Histogram<u64>,
}

impl Laps {
    pub(crate) fn new() -> Laps {
        Laps {
            ticks: vec![1; BUFFERED_LAPS].into_boxed_slice(),
            filled: 0,
            last: 0,
            ns_per_tick: clock::ns_per_tick(),
            histogram: Histogram::new_with_bounds(1, LONGEST_LAP_NS, SIGNIFICANT_DIGITS)
                .expect("the bounds are in order and three digits are few"),
        }
    }

    /// Begins the first lap.
    #[inline]
    pub(crate) fn start(&mut self) {
        self.last = clock::ticks();
    }

    /// Adds a duration that was measured elsewhere.
    #[inline]
    pub(crate) fn add(&mut self, ticks: u64) {
        self.ticks[self.filled] = ticks;
        self.filled += 1;
        if self.filled == self.ticks.len() {
            self.drain();
        }
    }

    /// Ends a lap and begins the next.
    #[inline]
    pub(crate) fn lap(&mut self) {
        let now = clock::ticks();
        self.ticks[self.filled] = now.saturating_sub(self.last);
        self.filled += 1;
        self.last = now;
        if self.filled == self.ticks.len() {
            self.drain();
            self.last = clock::ticks();
        }
    }

    /// p50, p99, p99.9 and p99.99 in microseconds, each lap divided by `parts`: 2 makes one way of a round trip.
    /// Empties the collection.
    pub(crate) fn percentiles(&mut self, parts: u32) -> Figures {
        self.drain();
        let microseconds = |q| self.histogram.value_at_quantile(q) as f64 / 1000.0 / f64::from(parts);
        let figures = Figures::from([
            (Metric::P50, microseconds(0.5)),
            (Metric::P99, microseconds(0.99)),
            (Metric::P999, microseconds(0.999)),
            (Metric::P9999, microseconds(0.9999)),
        ]);
        self.histogram.clear();
        figures
    }

    /// The median in nanoseconds. Empties the collection.
    pub(crate) fn median_ns(&mut self) -> f64 {
        self.drain();
        let median = self.histogram.value_at_quantile(0.5) as f64;
        self.histogram.clear();
        median
    }

    /// Takes the laps of another collection, which is empty afterwards.
    pub(crate) fn take_over(&mut self, other: &mut Laps) {
        other.drain();
        // Both histograms have the same bounds, so this can't fail.
        let _ = self.histogram.add(&other.histogram);
        other.histogram.clear();
    }

    #[cold]
    fn drain(&mut self) {
        for ticks in &self.ticks[..self.filled] {
            self.histogram
                .saturating_record((*ticks as f64 * self.ns_per_tick).round() as u64);
        }
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rise_and_the_collection_is_empty_after() {
        let mut laps = Laps::new();
        laps.start();
        for i in 0..3 * BUFFERED_LAPS {
            for _ in 0..i % 50 {
                std::hint::spin_loop();
            }
            laps.lap();
        }
        let figures = laps.percentiles(2);
        assert!(figures[&Metric::P50] > 0.0);
        assert!(figures[&Metric::P50] <= figures[&Metric::P99]);
        assert!(figures[&Metric::P99] <= figures[&Metric::P999]);
        assert!(figures[&Metric::P999] <= figures[&Metric::P9999]);
        assert_eq!(laps.percentiles(2)[&Metric::P999], 0.0);
    }

    #[test]
    fn one_way_is_half_of_a_round_trip() {
        let mut laps = Laps::new();
        laps.ns_per_tick = 1.0;
        for (round_trip_ns, one_way_us) in [(1000, 0.5), (8_000_000, 4000.0)] {
            laps.ticks[0] = round_trip_ns;
            laps.filled = 1;
            let found = laps.percentiles(2)[&Metric::P50];
            assert!(
                (found / one_way_us - 1.0).abs() < 0.002,
                "{found} us for {round_trip_ns} ns there and back"
            );
        }
    }
}

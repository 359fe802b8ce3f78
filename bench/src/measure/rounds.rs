//! Two sides take turns, round by round, so that whatever else the machine does meanwhile meets both alike;
//! what is reported is the median of the rounds.

use super::{Figures, RoundResult, Side};
use crate::error::Error;

/// A first try shorter than this says too little about a side's speed.
const TELLING_SECONDS: f64 = 0.02;
/// Grow a try that was too short by this much.
const GROWTH: u64 = 8;

/// How much work one side does over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Amount {
    Count(u64),
    Seconds(f64),
}

/// How a bench is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) rounds: u32,
    pub(crate) amount: Amount,
}

impl Schedule {
    /// The share of each of several starts.
    #[cfg(feature = "clusters")]
    pub(crate) fn shared(self, starts: u32) -> Schedule {
        let amount = match self.amount {
            Amount::Count(count) => Amount::Count(count.div_ceil(u64::from(starts))),
            Amount::Seconds(seconds) => Amount::Seconds(seconds / f64::from(starts)),
        };
        Schedule { amount, ..self }
    }
}

/// Runs the rounds of all sides in turn, the order reversed every other round, and returns each side's medians.
pub(crate) fn take_turns(sides: &mut [&mut dyn Side], schedule: Schedule) -> Result<Vec<Figures>, Error> {
    let mut paces = Vec::with_capacity(sides.len());
    for side in sides.iter_mut() {
        paces.push(Pace::find(*side, schedule)?);
    }
    let mut rounds: Vec<Vec<Figures>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..schedule.rounds as usize {
        for turn in 0..sides.len() {
            let at = if round % 2 == 0 {
                turn
            } else {
                sides.len() - 1 - turn
            };
            let count = paces[at].count();
            let result = sides[at].run_round(count)?;
            paces[at].saw(count, &result);
            rounds[at].push(result.figures);
        }
    }
    Ok(rounds.iter().map(|figures| medians(figures)).collect())
}

/// How much a side does in a round.
enum Pace {
    Count(u64),
    /// As much as it can in `seconds`, judged by the best it has shown: a disturbed round makes no later one short.
    Time {
        seconds: f64,
        best_rate: f64,
    },
}

impl Pace {
    /// Lets a side run unmeasured, until it is warm and its speed is known.
    fn find(side: &mut dyn Side, schedule: Schedule) -> Result<Pace, Error> {
        let rounds = schedule.rounds.max(1);
        match schedule.amount {
            Amount::Count(count) => {
                let each = count.div_ceil(u64::from(rounds)).max(1);
                side.run_round(each.div_ceil(10))?;
                Ok(Pace::Count(each))
            }
            Amount::Seconds(seconds) => {
                let seconds = seconds / f64::from(rounds);
                let mut pace = Pace::Time {
                    seconds,
                    best_rate: 0.0,
                };
                let mut count = side.first_count();
                loop {
                    let result = side.run_round(count)?;
                    pace.saw(count, &result);
                    if result.elapsed.as_secs_f64() >= TELLING_SECONDS.min(seconds) {
                        return Ok(pace);
                    }
                    count *= GROWTH;
                }
            }
        }
    }

    fn count(&self) -> u64 {
        match self {
            Pace::Count(count) => *count,
            Pace::Time { seconds, best_rate } => ((best_rate * seconds) as u64).max(1),
        }
    }

    fn saw(&mut self, count: u64, result: &RoundResult) {
        if let Pace::Time { best_rate, .. } = self {
            *best_rate = best_rate.max(count as f64 / result.elapsed.as_secs_f64().max(1e-9));
        }
    }
}

/// The median of each metric over the rounds.
pub(crate) fn medians(rounds: &[Figures]) -> Figures {
    let Some(first) = rounds.first() else {
        return Figures::new();
    };
    first
        .keys()
        .map(|metric| {
            (
                *metric,
                median(
                    rounds
                        .iter()
                        .filter_map(|round| round.get(metric))
                        .copied()
                        .collect(),
                ),
            )
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::measure::Metric;

    /// A side whose message takes a known time, and which writes down its turns.
    struct Steady<'a> {
        name: char,
        message: Duration,
        turns: &'a RefCell<String>,
        counts: Vec<u64>,
    }

    impl Side for Steady<'_> {
        fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
            self.turns.borrow_mut().push(self.name);
            self.counts.push(count);
            Ok(RoundResult {
                elapsed: self.message * count as u32,
                figures: Figures::from([(Metric::P50, self.counts.len() as f64)]),
            })
        }
    }

    fn steady(name: char, micros: u64, turns: &RefCell<String>) -> Steady<'_> {
        Steady {
            name,
            message: Duration::from_micros(micros),
            turns,
            counts: Vec::new(),
        }
    }

    #[test]
    fn sides_alternate_and_the_first_to_go_changes() {
        let turns = RefCell::new(String::new());
        let (mut a, mut b) = (steady('a', 1, &turns), steady('b', 1, &turns));
        let schedule = Schedule {
            rounds: 4,
            amount: Amount::Count(40),
        };
        take_turns(&mut [&mut a, &mut b], schedule).unwrap();
        assert_eq!(*turns.borrow(), "ababbaabba");
        assert_eq!(a.counts, [1, 10, 10, 10, 10]);
    }

    #[test]
    fn each_side_runs_for_the_same_time_whatever_its_speed() {
        let turns = RefCell::new(String::new());
        let (mut fast, mut slow) = (steady('f', 1, &turns), steady('s', 100, &turns));
        let schedule = Schedule {
            rounds: 2,
            amount: Amount::Seconds(2.0),
        };
        take_turns(&mut [&mut fast, &mut slow], schedule).unwrap();
        assert_eq!(fast.counts.last(), Some(&1_000_000));
        assert_eq!(slow.counts.last(), Some(&10_000));
    }

    #[test]
    fn the_median_shrugs_off_one_bad_round() {
        assert_eq!(median(vec![3.0, 1000.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }
}

//! Histories with faults: see `transport::sim` for the fault model and for what is checked.
//!
//! `SIM_HISTORIES` says how many (default 2,000), `SIM_SEED` where the seeds begin. A failing seed is printed with what
//! happened; `SIM_SEED=that SIM_HISTORIES=1` makes it again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use transport::sim::{run, run_traced};

fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => otherwise,
    }
}

#[test]
fn every_message_of_every_history_is_delivered_once_in_order_or_a_dead_letter() {
    let first = from_environment("SIM_SEED", 1);
    let count = from_environment("SIM_HISTORIES", 2_000);
    let next = AtomicU64::new(first);
    let totals: [AtomicU64; 6] = Default::default();
    let start = Instant::now();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match run(seed) {
                        Ok(outcome) => {
                            let of_this = [
                                outcome.sent,
                                outcome.delivered,
                                outcome.dead_letters,
                                outcome.gone,
                                outcome.events,
                                outcome.micros,
                            ];
                            for (total, figure) in totals.iter().zip(of_this) {
                                total.fetch_add(figure, Ordering::Relaxed);
                            }
                        }
                        Err(failure) => {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                            let again = run_traced(seed).expect_err("a seed makes the same history again");
                            panic!(
                                "{again}\n(first seen as: {failure})\nagain: SIM_SEED={seed} SIM_HISTORIES=1"
                            );
                        }
                    }
                }
            });
        }
    });
    let [sent, delivered, letters, gone, events, micros] = totals.map(AtomicU64::into_inner);
    let took = start.elapsed();
    println!(
        "seeds {first} to {}: {count} histories in {took:.1?} ({:.0} a second), {} s of simulated time: {sent} messages, \
         {delivered} delivered, {letters} dead letters, {events} session events, {gone} peers gone",
        first + count - 1,
        count as f64 / took.as_secs_f64(),
        micros / 1_000_000,
    );
}

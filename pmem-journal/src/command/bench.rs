//! `bench`: how fast this directory is, measured by appending to a journal of its own.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pmem_journal::{Event, Expected, Journal, Mode, Options, Reader};
use serde_json::json;

use super::Outcome;

#[derive(clap::Args)]
pub(crate) struct Load {
    /// Bytes of an event
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Events of a batch
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Threads that append
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// How long to append
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Refuse to run in any other mode: pmem, eadr, dax-no-sync, buffered, direct, volatile
    #[arg(long)]
    mode: Option<Mode>,
}

pub(crate) fn bench(dir: &Path, load: &Load) -> Outcome {
    let time = Duration::try_from_secs_f64(load.seconds).map_err(|_| "--seconds must be a time from 0 on")?;
    if load.batch == 0 || load.threads == 0 {
        return Err("--batch and --threads begin at 1".into());
    }
    // A journal of its own, which goes in the end.
    let own = dir.join(format!("bench-{}.journal", std::process::id()));
    if own.exists() {
        return Err(format!("{} is there already: remove it", own.display()).into());
    }
    let outcome = run(&own, load, time);
    if own.exists() {
        std::fs::remove_dir_all(&own)?;
    }
    outcome
}

fn run(own: &Path, load: &Load, time: Duration) -> Outcome {
    let mut options = Options::new();
    if let Some(mode) = load.mode {
        options = options.require(mode);
    }
    let (journal, _) = Journal::open_with(own, &options)?;
    let mode = journal.mode().clone();
    let payload = vec![7u8; load.size];
    let events = AtomicU64::new(0);
    let started = Instant::now();
    let appended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.threads)
            .map(|thread| {
                let (journal, payload, events) = (&journal, &payload, &events);
                scope.spawn(move || -> pmem_journal::Result<Vec<u64>> {
                    let batch = vec![Event::new(u128::from(thread), 1, payload); load.batch];
                    let mut nanoseconds = Vec::new();
                    while started.elapsed() < time {
                        let before = Instant::now();
                        journal.append(&batch, Expected::Any)?;
                        nanoseconds.push(before.elapsed().as_nanos() as u64);
                        events.fetch_add(load.batch as u64, Ordering::Relaxed);
                    }
                    Ok(nanoseconds)
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("the thread does not panic"));
        joined.collect::<pmem_journal::Result<Vec<_>>>()
    })?;
    let took = started.elapsed();
    journal.close()?;
    let mut nanoseconds: Vec<u64> = appended.concat();
    nanoseconds.sort_unstable();
    let quantile = |q: f64| {
        let at = (nanoseconds.len() as f64 * q) as usize;
        nanoseconds
            .get(at.min(nanoseconds.len().saturating_sub(1)))
            .map(|ns| *ns as f64 / 1_000.0)
    };
    let started = Instant::now();
    let mut replay = Reader::open(own)?.replay(0)?;
    let mut replayed = 0u64;
    while replay.next_event()?.is_some() {
        replayed += 1;
    }
    let events = events.into_inner();
    if replayed != events {
        return Err(format!("{events} events were acknowledged, and {replayed} are there").into());
    }
    let report = json!({
        "mode": mode.mode.name(),
        "reason": mode.reason,
        "event_bytes": load.size,
        "batch": load.batch,
        "threads": load.threads,
        "events": events,
        "events_per_second": (events as f64 / took.as_secs_f64()).round(),
        "append_us": { "p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999) },
        "replay_events_per_second": (replayed as f64 / started.elapsed().as_secs_f64()).round(),
    });
    writeln!(io::stdout().lock(), "{report}")?;
    Ok(ExitCode::SUCCESS)
}

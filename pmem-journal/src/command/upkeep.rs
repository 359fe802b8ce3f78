//! `snapshot ls`, `retain`, `compact`, `cool` and `backup`. What changes the journal takes the writer's lock.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pmem_journal::{Compaction, Held, Journal, Options, Reader, Retention};
use serde_json::{Value, json};

use super::{Outcome, progress::Segments};

pub(crate) fn list_snapshots(dir: &Path) -> Outcome {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = None;
    Reader::open(dir)?.for_each_snapshot(|listed| {
        let line = match listed.found {
            Ok(snapshot) => json!({
                "entity": listed.entity.to_string(),
                "sequence": snapshot.sequence,
                "position": snapshot.position,
                "schema_version": snapshot.schema_version,
                "timestamp_ns": snapshot.timestamp,
                "bytes": snapshot.payload.len(),
                "file": listed.file,
            }),
            Err(cause) => {
                json!({ "entity": listed.entity.to_string(), "file": listed.file, "damaged": cause })
            }
        };
        if let Err(e) = writeln!(out, "{line}") {
            failed.get_or_insert(e);
        }
    })?;
    match failed {
        Some(e) => Err(e.into()),
        None => {
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Opens for writing what is there already.
fn open(dir: &Path) -> pmem_journal::Result<Journal> {
    Ok(Journal::open_with(dir, &Options::new().create(false))?.0)
}

fn held(held: Option<Held>) -> Value {
    match held {
        None => Value::Null,
        Some(Held::Uncovered {
            segment,
            entity,
            sequence,
            covered,
        }) => json!({
            "by": "snapshots",
            "segment": segment,
            "entity": entity.to_string(),
            "sequence": sequence,
            "covered_up_to": covered,
        }),
        Some(Held::Projection { name, position }) => {
            json!({ "by": "projection", "name": name, "position": position })
        }
        Some(Held::Backup) => json!({ "by": "backup" }),
        Some(other) => json!({ "by": format!("{other:?}") }),
    }
}

fn print(report: &Value) -> Outcome {
    writeln!(io::stdout().lock(), "{report}")?;
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub(crate) struct Rules {
    /// Segments whose newest event is older than this many days
    #[arg(long)]
    older_than_days: Option<f64>,
    /// The oldest segments, while all together have more than this many bytes
    #[arg(long)]
    larger_than: Option<u64>,
    /// Segments whose events are all below this position
    #[arg(long)]
    below: Option<u64>,
    /// How many good snapshots of its entity must cover an event before it goes
    #[arg(long, default_value_t = 2)]
    covered_by: usize,
    /// What goes is gone: no snapshot is asked for
    #[arg(long, conflicts_with = "covered_by")]
    without_snapshots: bool,
    /// Do it; without this only what would be done is said
    #[arg(long)]
    apply: bool,
}

pub(crate) fn retain(dir: &Path, rules: &Rules) -> Outcome {
    let mut retention = Retention::new()
        .covered_by(rules.covered_by)
        .dry_run(!rules.apply);
    if let Some(days) = rules.older_than_days {
        let age = Duration::try_from_secs_f64(days * 86_400.0)
            .map_err(|_| format!("{days} days is no age: use a number of days from 0 on"))?;
        retention = retention.older_than(age);
    }
    if let Some(bytes) = rules.larger_than {
        retention = retention.larger_than(bytes);
    }
    if let Some(position) = rules.below {
        retention = retention.below(position);
    }
    if rules.without_snapshots {
        retention = retention.without_snapshots();
    }
    let done = open(dir)?.retain(&retention)?;
    print(&json!({
        "applied": rules.apply,
        "segments": done.segments,
        "bytes": done.bytes,
        "first_position": done.first_position,
        "held": held(done.held),
    }))
}

pub(crate) fn compact(dir: &Path, covered_by: usize, newest_only: bool, apply: bool) -> Outcome {
    let mut compaction = Compaction::new().covered_by(covered_by).dry_run(!apply);
    if newest_only {
        compaction = compaction.newest_only();
    }
    let done = open(dir)?.compact(&compaction)?;
    print(&json!({
        "applied": apply,
        "segments": done.segments,
        "events": done.events,
        "bytes": done.bytes,
        "held": held(done.held),
    }))
}

pub(crate) fn cool(dir: &Path, cold: &Path, keep_hot: u64) -> Outcome {
    let done = open(dir)?.cool(cold, keep_hot)?;
    print(&json!({ "segments": done.segments, "bytes": done.bytes, "held": held(done.held) }))
}

pub(crate) fn backup(dir: &Path, to: &Path) -> Outcome {
    let reader = Reader::open(dir)?;
    let segments = Segments::of(&reader, "copying");
    let done = reader.backup(to, &|progress| segments.show(progress))?;
    drop(segments);
    print(&json!({
        "segments": done.segments,
        "bytes": done.bytes,
        "first_position": done.first_position,
        "next_position": done.next_position,
        "snapshots": done.snapshots,
    }))
}

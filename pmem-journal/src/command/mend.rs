//! `truncate` and `repair`: say what they would do, and do it when told to.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use pmem_journal::{Repair, repair as mend, truncate as cut};
use serde_json::{Value, json};

use super::Outcome;

fn print(report: &Value, apply: bool) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{report}")?;
    if !apply {
        eprintln!("pmem-journal: nothing was changed; --apply does it");
    }
    Ok(())
}

pub(crate) fn truncate(dir: &Path, to: u64, apply: bool) -> Outcome {
    let done = cut(dir, to, apply)?;
    let report = json!({
        "applied": apply,
        "position": done.position,
        "events": done.end - done.position,
        "segments": done.segments,
        "snapshots": done.snapshots,
        "projections_ahead": done.projections,
        "set_aside": done.set_aside,
    });
    print(&report, apply)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn repair(dir: &Path, apply: bool) -> Outcome {
    let done = mend(dir, apply)?;
    let repairs: Vec<Value> = done.repairs.iter().map(describe).collect();
    let report = json!({
        "applied": apply,
        "repairs": repairs,
        "set_aside": done.set_aside,
    });
    print(&report, apply || repairs.is_empty())?;
    Ok(if repairs.is_empty() || apply {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn describe(repair: &Repair) -> Value {
    match repair {
        Repair::Footer { segment } => json!({ "footer_written_again": segment }),
        Repair::Cut {
            segment,
            offset,
            cause,
            position,
            lost_to,
        } => json!({
            "cut_at": position,
            "segment": segment,
            "offset": offset,
            "cause": cause,
            "lost_at_least_up_to": lost_to,
        }),
        Repair::Snapshot { file, cause } => json!({ "snapshot_set_aside": file, "cause": cause }),
        Repair::Cursor { name, cause } => json!({ "cursor_left_for_you": name, "cause": cause }),
        other => json!({ "other": format!("{other:?}") }),
    }
}

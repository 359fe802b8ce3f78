//! `info`, `dump`, `verify` and `tail`: reading, beside a writer or without one.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pmem_journal::{Error, Followed, Reader, Recorded, Selection, probe};
use serde_json::json;

use super::{Outcome, json as line, progress::Segments};

pub(crate) fn info(dir: &Path) -> Outcome {
    let reader = Reader::open(dir)?;
    let summary = reader.summary()?;
    let mut out = io::stdout().lock();
    writeln!(out, "journal    {}", dir.display())?;
    writeln!(out, "id         {}", summary.journal_id)?;
    writeln!(out, "format     {}", summary.format_version)?;
    writeln!(
        out,
        "segments   {} of {} bytes in all",
        summary.segments, summary.bytes
    )?;
    writeln!(
        out,
        "events     {} ({}..{})",
        summary.events(),
        summary.first_position,
        summary.next_position
    )?;
    writeln!(
        out,
        "writer     {}",
        if reader.has_writer() { "open now" } else { "none" }
    )?;
    let cold = reader
        .sealed_segments()?
        .iter()
        .filter(|s| s.path.is_symlink())
        .count();
    if cold > 0 {
        writeln!(out, "cold       {cold} segments lie in another directory")?;
    }
    let (mut snapshots, mut damaged) = (0u64, 0u64);
    reader.for_each_snapshot(|listed| match listed.found {
        Ok(_) => snapshots += 1,
        Err(_) => damaged += 1,
    })?;
    writeln!(out, "snapshots  {snapshots} good, {damaged} damaged")?;
    for projection in reader.projections()? {
        match projection.position {
            Ok(position) => writeln!(out, "projection {} at {position}", projection.name)?,
            Err(cause) => writeln!(out, "projection {}: {cause}", projection.name)?,
        }
    }
    match probe(dir) {
        Ok(found) => writeln!(out, "mode here  {}: {}", found.mode, found.reason)?,
        Err(e) => writeln!(out, "mode here  cannot be probed: {e}")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Which events to print.
#[derive(clap::Args)]
pub(crate) struct Wanted {
    /// Only this entity (32 hex digits, or a name)
    #[arg(long)]
    entity: Option<String>,
    /// Only events with this tag
    #[arg(long)]
    tag: Option<String>,
}

impl Wanted {
    /// What the index is asked for; of an entity's events those with the tag are left to [`Wanted::has_tag`].
    fn selection(&self) -> Selection {
        match (&self.entity, &self.tag) {
            (Some(entity), _) => Selection::Entity(line::entity(entity)),
            (None, Some(tag)) => Selection::Tag(tag.clone()),
            (None, None) => Selection::All,
        }
    }

    fn has_tag(&self, event: &Recorded<'_>) -> bool {
        let tag = self.tag.as_deref();
        tag.is_none_or(|tag| event.tags().any(|other| other == tag))
    }
}

pub(crate) fn dump(dir: &Path, from: Option<u64>, wanted: &Wanted) -> Outcome {
    let mut events = Reader::open(dir)?.select(wanted.selection(), from)?;
    let mut out = BufWriter::new(io::stdout().lock());
    while let Some(event) = events.next_event()? {
        if wanted.has_tag(&event) {
            line::write_event(&mut out, &event)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn verify(dir: &Path) -> Outcome {
    let reader = Reader::open(dir)?;
    let segments = Segments::of(&reader, "verifying");
    let verified = reader.verify_with(&|progress| segments.show(progress));
    drop(segments);
    let mut report = match verified {
        Ok(report) => {
            let torn = report
                .torn
                .as_ref()
                .map(|torn| json!({ "segment": torn.segment, "offset": torn.offset, "cause": torn.cause }));
            json!({
                "ok": true,
                "events": report.events,
                "first_position": report.first_position,
                "next_position": report.next_position,
                "segments": report.segments,
                "closed_in_good_order": report.clean,
                "torn": torn,
            })
        }
        Err(Error::Corruption {
            segment,
            offset,
            cause,
        }) => json!({ "ok": false, "segment": segment, "offset": offset, "cause": cause }),
        Err(e) => return Err(e.into()),
    };
    let mut damaged = Vec::new();
    let mut snapshots = 0u64;
    // Where no segment is readable nobody can tell whose the snapshots are.
    let looked = reader.for_each_snapshot(|listed| {
        snapshots += 1;
        if let Err(cause) = listed.found {
            damaged.push(json!({ "file": listed.file, "cause": cause }));
        }
    });
    if looked.is_ok() {
        for projection in reader.projections()? {
            if let Err(cause) = projection.position {
                damaged.push(json!({ "projection": projection.name, "cause": cause }));
            }
        }
        report["snapshots"] = snapshots.into();
    }
    let ok = report["ok"] == true && damaged.is_empty();
    report["ok"] = ok.into();
    report["damaged"] = damaged.into();
    writeln!(io::stdout().lock(), "{report}")?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

pub(crate) fn tail(dir: &Path, follow: bool, lines: u64, wanted: &Wanted) -> Outcome {
    let reader = Reader::open(dir)?;
    let summary = reader.summary()?;
    let mut next = summary.next_position;
    let selection = wanted.selection();
    // Of all events the last ones are known by their positions; of some they are found by reading.
    let from = match selection {
        Selection::All => next.saturating_sub(lines).max(summary.first_position),
        _ => summary.first_position,
    };
    let mut last = VecDeque::new();
    let mut events = reader.select(selection.clone(), Some(from))?;
    while let Some(event) = events.next_event()? {
        next = next.max(event.position + 1);
        if wanted.has_tag(&event) {
            last.push_back(event.position);
        }
        if last.len() as u64 > lines {
            last.pop_front();
        }
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(first) = last.front() {
        let mut events = reader.select(selection.clone(), Some(*first))?;
        while let Some(event) = events.next_event()? {
            if event.position < next && wanted.has_tag(&event) {
                line::write_event(&mut out, &event)?;
            }
        }
    }
    out.flush()?;
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut follower = reader.follow(selection, Some(next))?;
    let mut patience = Duration::ZERO;
    loop {
        match follower.next(patience)? {
            Followed::Event(event) => {
                if wanted.has_tag(&event) {
                    line::write_event(&mut out, &event)?;
                }
                patience = Duration::ZERO;
            }
            Followed::CaughtUp => {}
            Followed::TimedOut => {
                out.flush()?;
                patience = Duration::from_secs(1);
            }
        }
    }
}

//! `info`, `dump`, `verify` and `tail`: reading, beside a writer or without one.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pmem_journal::{Error, Reader, probe};
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

pub(crate) fn dump(dir: &Path, from: Option<u64>, entity: Option<&str>, tag: Option<&str>) -> Outcome {
    let entity = entity.map(line::entity);
    let reader = Reader::open(dir)?;
    let mut replay = match from {
        Some(from) => reader.replay(from)?,
        None => reader.replay_kept()?,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    while let Some(event) = replay.next_event()? {
        let wanted = entity.is_none_or(|entity| entity == event.entity)
            && tag.is_none_or(|tag| event.tags().any(|t| t == tag));
        if wanted {
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

pub(crate) fn tail(dir: &Path, follow: bool, lines: u64) -> Outcome {
    let reader = Reader::open(dir)?;
    let summary = reader.summary()?;
    let from = summary
        .next_position
        .saturating_sub(lines)
        .max(summary.first_position);
    let mut replay = reader.replay(from)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut pause = Duration::from_millis(1);
    loop {
        let before = replay.position();
        while let Some(event) = replay.next_event()? {
            line::write_event(&mut out, &event)?;
        }
        out.flush()?;
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        // Quick while events come, at rest otherwise.
        let idle = before == replay.position();
        pause = if idle {
            (pause * 2).min(Duration::from_millis(50))
        } else {
            Duration::from_millis(1)
        };
        std::thread::sleep(pause);
        replay.refresh()?;
    }
}

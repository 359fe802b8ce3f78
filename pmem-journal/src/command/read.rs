//! `info`, `dump`, `verify` and `tail`: reading, beside a writer or without one.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pmem_journal::{Error, Reader, probe};
use serde_json::json;

use super::{Outcome, json as line};

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
    let (report, code) = match reader.verify() {
        Ok(report) => {
            let torn = report
                .torn
                .as_ref()
                .map(|torn| json!({ "segment": torn.segment, "offset": torn.offset, "cause": torn.cause }));
            let report = json!({
                "ok": true,
                "events": report.events,
                "first_position": report.first_position,
                "next_position": report.next_position,
                "segments": report.segments,
                "closed_in_good_order": report.clean,
                "torn": torn,
            });
            (report, ExitCode::SUCCESS)
        }
        Err(Error::Corruption {
            segment,
            offset,
            cause,
        }) => {
            let report = json!({ "ok": false, "segment": segment, "offset": offset, "cause": cause });
            (report, ExitCode::from(3))
        }
        Err(e) => return Err(e.into()),
    };
    writeln!(io::stdout().lock(), "{report}")?;
    Ok(code)
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

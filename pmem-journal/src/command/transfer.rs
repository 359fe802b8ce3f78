//! `export` and `import`: a journal as JSON lines, batch by batch.
//!
//! A line is what `dump` prints, with `batch_end` on the last event of each batch. Importing keeps order, batches, entities,
//! sequences, types, keys, tags, correlation ids and payloads; positions follow from the order, and the time is that of the
//! import.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use pmem_journal::{EntityId, Event, Expected, Journal, MAX_PAYLOAD, Options, Reader};
use serde::Deserialize;

use super::{Outcome, json, progress};

/// Longest line: a payload of full length with every byte escaped, and the rest.
const MAX_LINE: u64 = 6 * MAX_PAYLOAD as u64 + (1 << 20);
/// Most bytes of one batch.
const MAX_BATCH: usize = 1 << 30;

pub(crate) fn export(dir: &Path, from: Option<u64>) -> Outcome {
    let reader = Reader::open(dir)?;
    let mut replay = match from {
        Some(from) => reader.replay(from)?,
        None => reader.replay_kept()?,
    };
    progress::events("exported", |bar| {
        let mut out = BufWriter::new(io::stdout().lock());
        while let Some(event) = replay.next_event()? {
            json::write_event_of_batch(&mut out, &event)?;
            bar.inc(1);
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    })
}

#[derive(Deserialize)]
struct Line {
    entity: String,
    sequence: Option<u64>,
    kind: u16,
    #[serde(default = "first")]
    schema_version: u16,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    correlation: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    payload: Option<String>,
    payload_hex: Option<String>,
    #[serde(default)]
    batch_end: bool,
}

fn first() -> u16 {
    1
}

/// A line understood.
struct Parsed {
    entity: EntityId,
    sequence: Option<u64>,
    kind: u16,
    schema_version: u16,
    key: u128,
    correlation: Option<u128>,
    tags: Vec<String>,
    payload: Vec<u8>,
}

impl Line {
    fn parse(self) -> Result<Parsed, String> {
        let id = |text: &str, what: &str| {
            u128::from_str_radix(text, 16).map_err(|_| format!("{what} {text:?} is not a number in hex"))
        };
        let payload = match (self.payload, self.payload_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(hex)) => json::unhex(&hex).ok_or("payload_hex is not pairs of hex digits")?,
            _ => return Err("it must have one of payload and payload_hex".to_owned()),
        };
        Ok(Parsed {
            entity: json::entity(&self.entity),
            sequence: self.sequence,
            kind: self.kind,
            schema_version: self.schema_version,
            key: self
                .idempotency_key
                .map_or(Ok(0), |key| id(&key, "idempotency_key"))?,
            correlation: self.correlation.map(|c| id(&c, "correlation")).transpose()?,
            tags: self.tags,
            payload,
        })
    }
}

pub(crate) fn import(dir: &Path, segment_size: u64, renumber: bool, resume: bool) -> Outcome {
    let (journal, _) = Journal::open_with(dir, &Options::new().segment_size(segment_size))?;
    let mut input = io::stdin().lock();
    let (mut batch, mut bytes, mut number, mut skipped) = (Vec::new(), 0, 0u64, 0u64);
    let outcome = progress::events("imported", |bar| {
        let mut line = String::new();
        loop {
            line.clear();
            if (&mut input).take(MAX_LINE).read_line(&mut line)? == 0 {
                break;
            }
            number += 1;
            let in_line = |e: String| format!("line {number}: {e}");
            let parsed: Line = serde_json::from_str(&line).map_err(|e| in_line(e.to_string()))?;
            let ends = parsed.batch_end;
            let parsed = parsed.parse().map_err(in_line)?;
            bytes += parsed.payload.len();
            if bytes > MAX_BATCH {
                return Err(in_line("its batch has more than 1 GiB: no batch_end?".to_owned()).into());
            }
            batch.push(parsed);
            if ends {
                let there = resume && is_there(&journal, &batch)?;
                if there {
                    skipped += batch.len() as u64;
                } else {
                    append(&journal, &batch, renumber).map_err(|e| in_line(e.to_string()))?;
                    bar.inc(batch.len() as u64);
                }
                batch.clear();
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            return Err(format!(
                "the last {} lines are a batch without its end: not imported",
                batch.len()
            )
            .into());
        }
        Ok(ExitCode::SUCCESS)
    })?;
    let end = journal.durable_position();
    journal.close()?;
    let report = serde_json::json!({ "lines": number, "already_there": skipped, "next_position": end });
    writeln!(io::stdout().lock(), "{report}")?;
    Ok(outcome)
}

/// Whether an earlier import has brought all events of the batch.
fn is_there(journal: &Journal, batch: &[Parsed]) -> pmem_journal::Result<bool> {
    for event in batch {
        match event.sequence {
            Some(sequence) if sequence <= journal.sequence(event.entity)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn append(journal: &Journal, batch: &[Parsed], renumber: bool) -> Result<(), Box<dyn std::error::Error>> {
    if !renumber {
        let mut next = std::collections::HashMap::new();
        for event in batch {
            let at = match next.get(&event.entity) {
                Some(at) => *at,
                None => journal.sequence(event.entity)?,
            };
            if event.sequence.is_some_and(|sequence| sequence != at + 1) {
                return Err(format!(
                    "entity {} is at sequence {at}, and the line says {}: import into an empty journal, go on with \
                     --resume, or let the sequences be new with --renumber",
                    event.entity,
                    event.sequence.unwrap_or(0)
                )
                .into());
            }
            next.insert(event.entity, at + 1);
        }
    }
    let tags: Vec<Vec<&str>> = batch
        .iter()
        .map(|event| event.tags.iter().map(String::as_str).collect())
        .collect();
    let events: Vec<Event<'_>> = batch
        .iter()
        .zip(&tags)
        .map(|(event, tags)| Event {
            idempotency_key: event.key,
            correlation: event.correlation,
            schema_version: event.schema_version,
            tags,
            ..Event::new(event.entity, event.kind, &event.payload)
        })
        .collect();
    journal.append(&events, Expected::Any)?;
    Ok(())
}

//! Reading one segment by recovery's table.

use super::{Active, Learner, Recovered, Torn};
use crate::error::{Error, Result};
use crate::format::{self, ALIGN, CONTROL_CLOSE, HEADER, Header as Record, Invalid, padded};
use crate::medium::MediumFile;
use crate::options::Progress;
use crate::scan::{Checks, Scanner, Step, Window};
use crate::segment::{DATA, Footer, Header};

/// A segment to be read from its beginning.
pub(crate) struct Part<'a> {
    pub(crate) file: &'a dyn MediumFile,
    pub(crate) name: &'a str,
    pub(crate) header: Header,
    /// No segment follows it.
    pub(crate) last: bool,
}

/// Bytes read between two reports of progress.
const REPORT: u64 = 4 << 20;

/// Reads one segment by the table above [`super::recover`], and says in `out` where it ends.
pub(crate) fn scan_segment(
    part: &Part<'_>,
    checks: Checks,
    out: &mut Recovered,
    learner: &mut dyn Learner,
    progress: &dyn Fn(Progress),
) -> Result<()> {
    let Part {
        file,
        name,
        header,
        last,
    } = *part;
    let corrupt = |offset, cause: String| Error::corruption(name, offset, cause);
    let footer = Footer::read(file, &header).map_err(Error::io("read", name))?;
    if footer.is_none() && !last {
        return Err(corrupt(
            header.data_end(),
            "the footer of a sealed segment is not valid".to_owned(),
        ));
    }
    let end = footer.map_or(header.data_end(), |footer| footer.end);
    let mut scanner = Scanner::new(&header, end, checks);
    let mut reported = DATA;
    let mut batch_start = DATA;
    let mut batch_position = header.first_position;
    let stop = loop {
        if !scanner.in_batch() {
            batch_start = scanner.offset;
            batch_position = scanner.position;
        }
        if scanner.offset >= reported + REPORT {
            reported = scanner.offset;
            progress(Progress {
                segment: header.index,
                done: reported,
                of: end,
            });
        }
        match scanner.step(file).map_err(Error::io("read", name))? {
            Step::Record if scanner.header().is_control() => {
                out.report.clean = scanner.header().kind == CONTROL_CLOSE;
            }
            Step::Record => {
                let record = scanner.header();
                learner.learn(record, scanner.record()).map_err(|cause| {
                    corrupt(
                        scanner.offset - padded(scanner.record().len()) as u64,
                        cause.to_string(),
                    )
                })?;
                out.timestamp = out.timestamp.max(record.timestamp);
                out.report.clean = false;
            }
            Step::End if scanner.in_batch() && checks.batch => break Some(Invalid::Batch),
            Step::End => break None,
            Step::Invalid(cause) => break Some(cause),
        }
    };
    let stopped_at = scanner.offset;
    if stop.is_some() && checks.batch {
        learner.forget_batch();
    }
    let (offset, mut position) = if checks.batch {
        (batch_start, batch_position)
    } else {
        (scanner.offset, scanner.position)
    };
    let mut log_end = header.log_position(offset);
    if let Some(footer) = footer {
        if header.compacted && position <= footer.next_position {
            // Where its last events were taken out, the footer alone knows.
            position = footer.next_position;
            log_end = footer.log_end;
        }
        if offset != footer.end || position != footer.next_position || log_end != footer.log_end {
            let cause = stop.unwrap_or(Invalid::Missing);
            return Err(corrupt(
                stopped_at,
                format!("{cause}, below the end of a sealed segment"),
            ));
        }
    } else {
        if checks.durable {
            look_for_durable_past(file, name, &header, offset, stop)?;
        }
        if let Some(cause) = stop.filter(|_| !out.report.clean || offset != stopped_at) {
            let (segment, cause) = (name.to_owned(), cause.to_string());
            out.report.torn = Some(Torn {
                segment,
                offset,
                cause,
            });
        }
    }
    out.epoch = scanner.epoch;
    out.report.next_position = position;
    out.active = Some(Active {
        header,
        offset,
        log_end,
        sealed: footer.is_some(),
    });
    Ok(())
}

/// Refuses if any record past `cut` proves that the bytes at `cut` were durable.
fn look_for_durable_past(
    file: &dyn MediumFile,
    name: &str,
    header: &Header,
    cut: u64,
    cause: Option<Invalid>,
) -> Result<()> {
    let corrupt = |cause: String| Error::corruption(name, cut, cause);
    let cause = cause.unwrap_or(Invalid::Missing);
    let end = header.data_end();
    let mut window = Window::new();
    // A hostile file may hold a look-alike of full length at every 16 bytes; honest ones stay far below this.
    let mut budget = header.size.saturating_mul(4);
    let mut at = cut + ALIGN as u64;
    while at + HEADER as u64 <= end {
        let range = window
            .fill(file, at, HEADER, end)
            .map_err(Error::io("read", name))?;
        let Ok(bytes) = <&[u8; HEADER]>::try_from(&window.bytes()[range.clone()]) else {
            return Ok(());
        };
        if bytes[..8] == [0; 8] {
            // Mostly zeroes: go to the next step whose first bytes are not.
            let rest = &window.bytes()[range.start..];
            let zeroes = rest
                .chunks_exact(ALIGN)
                .take_while(|chunk| chunk[..8] == [0; 8])
                .count();
            at += (zeroes.max(1) * ALIGN) as u64;
            continue;
        }
        if let Some(record) = claims_durable(bytes, header, at, cut) {
            budget = budget.checked_sub(record.len as u64).ok_or_else(|| {
                corrupt(format!(
                    "{cause}; too many look-alikes of records follow to tell a torn tail"
                ))
            })?;
            let range = window
                .fill(file, at, record.len, end)
                .map_err(Error::io("read", name))?;
            let salt = format::salt(&header.journal, record.epoch);
            let bytes = &window.bytes()[range];
            if bytes.len() == record.len && format::check(bytes, &record, salt).is_ok() {
                return Err(corrupt(format!(
                    "{cause}; the record at byte {at} was written after this was durable"
                )));
            }
        }
        at += ALIGN as u64;
    }
    Ok(())
}

fn claims_durable(bytes: &[u8; HEADER], header: &Header, at: u64, cut: u64) -> Option<Record> {
    let record = Record::decode(bytes, header.data_end() - at).ok().flatten()?;
    let durable = header
        .log_position(at)
        .checked_sub(u64::from(record.durable_gap))?;
    (durable > header.log_position(cut) && padded(record.len) as u64 <= header.data_end() - at)
        .then_some(record)
}

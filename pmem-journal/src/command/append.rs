//! `append`: lines in, positions out.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use pmem_journal::{Event, Expected, Journal, MAX_PAYLOAD, Mode, Options};

use super::{Outcome, json};

pub(crate) fn append(
    dir: &Path,
    entity: &str,
    kind: u16,
    tags: &[String],
    mode: Option<Mode>,
    segment_size: u64,
) -> Outcome {
    let mut options = Options::new().segment_size(segment_size);
    if let Some(mode) = mode {
        options = options.require(mode);
    }
    let (journal, recovery) = Journal::open_with(dir, &options)?;
    if let Some(torn) = recovery.torn {
        let (segment, offset, cause) = (torn.segment, torn.offset, torn.cause);
        eprintln!("pmem-journal: a crash tore the tail of {segment} at byte {offset} ({cause}); it was cut");
    }
    let entity = json::entity(entity);
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte over the limit is enough to have the journal refuse it, however long the line goes on.
        if (&mut input)
            .take(MAX_PAYLOAD as u64 + 2)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let appended = journal.append(&[Event::new(entity, kind, &line).tags(&tags)], Expected::Any)?;
        writeln!(output, "{}", appended.first_position)?;
        output.flush()?;
    }
    journal.close()?;
    Ok(ExitCode::SUCCESS)
}

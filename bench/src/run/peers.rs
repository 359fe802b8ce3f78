//! Our journal beside other durable logs.

use super::reporting::{Report, progress};
use super::temporary_folder;
use crate::cli::Journal;
use crate::error::Error;
use crate::floor::journal::Shape;
use crate::machine;
use crate::measure::{Side, take_turns};
use crate::peers::{Peer, ROWS, per_commit};
use crate::report::Subject;

/// Our journal and other durable logs, taking turns.
pub(super) fn peers(options: &Journal) -> Result<(), Error> {
    let mut report = Report::begin(&options.output)?;
    let temporary = temporary_folder()?;
    let dir = options.dir.as_deref().unwrap_or(temporary.path());
    if machine::in_memory(dir) {
        report.table.note(format!(
            "{} is in memory: nothing there outlives the machine",
            dir.display()
        ));
    }
    for &size in &options.size {
        for (bench, threads, batch) in ROWS {
            let shape = Shape { size, batch, threads };
            let subject = |peer: Peer| Subject {
                bench,
                transport: peer.name().to_owned(),
                size,
            };
            progress(&subject(Peer::PmemJournal));
            let mut sides = Vec::new();
            for peer in Peer::ALL {
                sides.push(peer.side(dir, shape)?);
            }
            let mut turns: Vec<&mut dyn Side> = sides.iter_mut().map(|side| side as _).collect();
            let medians = take_turns(&mut turns, options.extent.schedule())?;
            drop(sides);
            report.add(subject(Peer::PmemJournal).measurements(&medians[0], None))?;
            for (peer, figures) in Peer::ALL.iter().zip(&medians).skip(1) {
                report.add(subject(*peer).measurements(&medians[0], Some(figures)))?;
            }
            let mut syncs = Vec::new();
            for peer in Peer::ALL {
                match per_commit(peer, dir, shape) {
                    Ok(count) => syncs.push(format!("{} {count:.2}", peer.name())),
                    Err(error @ Error::StraceMissing) => {
                        syncs = vec![error.to_string()];
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            report
                .table
                .note(format!("{bench}, syncs for each commit: {}", syncs.join(", ")));
        }
    }
    report.table.note(
        "the figures are ours, the floor is the log named in the row: a ratio of events above 1 says that we are faster; \
         8 writers share syncs where a log can, so there is less than one for each commit",
    );
    report.end()
}

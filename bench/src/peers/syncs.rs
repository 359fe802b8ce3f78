//! How often a log syncs for a commit, counted by strace: a log that answers before its bytes are on the disk would win
//! every row, and shows here.
//!
//! This program is started twice under strace, to open a log and close it, and to append to it in between. What the
//! second syncs more is what its commits take.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Peer;
use crate::error::{Error, doing};
use crate::floor::journal::Shape;
use crate::measure::Side;
use crate::tied;

const COMMITS: u64 = 200;
/// What makes bytes of a file durable. `sync_file_range` does not: it has the kernel write, and has the disk keep nothing.
const CALLS: &str = "fsync,fdatasync,msync,syncfs,sync";

/// Syncs for each of the threads' commits.
pub(crate) fn per_commit(peer: Peer, dir: &Path, shape: Shape) -> Result<f64, Error> {
    let commits = COMMITS.next_multiple_of(shape.threads as u64);
    let (without, with) = (counted(peer, dir, shape, 0)?, counted(peer, dir, shape, commits)?);
    Ok((with as f64 - without as f64) / commits as f64)
}

fn counted(peer: Peer, dir: &Path, shape: Shape, commits: u64) -> Result<u64, Error> {
    let this = tied::this_program()?;
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-U", "calls,name", "-e"])
        .arg(format!("trace={CALLS}"))
        .arg(this.get_program())
        .args([tied::PEER_COMMAND, peer.name()])
        .arg(dir)
        .args([shape.size, shape.batch, shape.threads].map(|number| number.to_string()))
        .arg(commits.to_string())
        .stdin(Stdio::null());
    let output = strace.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::StraceMissing,
        _ => doing("starting strace")(error),
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Error::Strace {
            said: said.into_owned(),
        });
    }
    Ok(calls(&said))
}

/// The calls of all lines of a summary, each a number and a name.
fn calls(summary: &str) -> u64 {
    summary
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .filter(|(_, name)| CALLS.split(',').any(|call| call == name.trim()))
        .filter_map(|(number, _)| number.parse::<u64>().ok())
        .sum()
}

/// The counted process: opens a log, makes so many commits, and closes it.
pub(crate) fn append_alone(peer: Peer, dir: &Path, shape: Shape, commits: u64) -> Result<(), Error> {
    let mut side = peer.side(dir, shape)?;
    match commits * shape.batch as u64 {
        0 => Ok(()),
        events => side.run_round(events).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_added_up() {
        let summary = "    calls syscall\n--------- ----------------\n      201 fdatasync\n        3 fsync\n\
                       --------- ----------------\n      204 total\n";
        assert_eq!(calls(summary), 204);
        assert_eq!(calls(""), 0);
    }
}

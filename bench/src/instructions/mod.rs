//! How many instructions a message costs on its way out of one node and into another: counted by valgrind's callgrind, so
//! that neither neighbours nor clocks move the figures, and held against limits that a change must not pass unseen.
//!
//! The program runs itself under callgrind once for each figure, and lets it collect inside of one function of
//! [`work`] or [`calls`] alone. Counted is what this process executes; what the kernel does in a system call is not.

mod calls;
mod limits;
mod work;

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, doing};
use crate::measure::Figures;
use crate::report::Subject;
use crate::scratch::Scratch;
use crate::tied::INSTRUCTIONS_COMMAND;

use limits::LIMITS;
pub(crate) use work::{Part, Way, run as run_part};

/// Bytes of a message.
const SIZE: usize = 64;

/// One count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    way: Way,
    part: Part,
    /// Instructions of one message, one look or one call.
    pub(crate) instructions: f64,
    /// What they may be at most.
    limit: f64,
}

impl Count {
    pub(crate) fn is_within(&self) -> bool {
        self.instructions <= self.limit
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject {
            bench: "instructions",
            transport: self.way.name().to_owned(),
            size: SIZE,
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures::from([(self.part.metric(), self.instructions)])
    }
}

/// The line of the report.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<28}{:>10.1}{:>10.0}{}",
            format!("{} {}", self.part.name(), self.way.name()),
            self.instructions,
            self.limit,
            if self.is_within() { "" } else { "   over" }
        )
    }
}

/// Counts everything on these ways that has a limit.
pub(crate) fn count_all(
    ways: &[Way],
    mut each: impl FnMut(&Count) -> Result<(), Error>,
) -> Result<(), Error> {
    for &(way, part, limit) in LIMITS.iter().filter(|(way, ..)| ways.contains(way)) {
        let instructions = count(way, part)?;
        each(&Count {
            way,
            part,
            instructions,
            limit,
        })?;
    }
    Ok(())
}

fn count(way: Way, part: Part) -> Result<f64, Error> {
    let folder = Scratch::make_in(&std::env::temp_dir())?;
    let counts = folder.path().join("callgrind");
    let this = std::env::current_exe().map_err(doing("finding this program"))?;
    let output = Command::new("valgrind")
        // A debugger's pipes would stay behind in the temporary folder if this were killed.
        .args(["--quiet", "--vgdb=no", "--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*", part.function()))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(this)
        .args([INSTRUCTIONS_COMMAND, way.name(), part.name()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::ValgrindMissing,
            _ => doing("starting valgrind")(error),
        })?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(Error::Valgrind { said: said() });
    }
    let total = total(&counts)?.ok_or_else(|| Error::Valgrind { said: said() })?;
    Ok(total as f64 / work::TIMES as f64)
}

/// The sum of all instructions collected; nothing where none were.
fn total(counts: &Path) -> Result<Option<u64>, Error> {
    let text = std::fs::read_to_string(counts).map_err(doing("reading the counts of callgrind"))?;
    Ok(total_in(&text).filter(|total| *total > 0))
}

fn total_in(counts: &str) -> Option<u64> {
    counts
        .lines()
        .filter_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_total_counts() {
        assert_eq!(
            total_in("events: Ir\nsummary: 3\ntotals: 12\n0 3\ntotals: 15\n"),
            Some(15)
        );
        assert_eq!(total_in("events: Ir\n"), None);
    }

    #[test]
    fn every_way_and_part_has_at_most_one_limit() {
        for (place, (way, part, limit)) in LIMITS.iter().enumerate() {
            assert!(*limit > 0.0);
            assert!(!LIMITS[..place].iter().any(|(w, p, _)| (w, p) == (way, part)));
        }
    }
}

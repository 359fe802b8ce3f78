//! This program started again by itself, as children that die with their parent even when it is killed.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::error::{Error, doing};

/// The hidden command that makes this program a far half.
pub(crate) const FAR_COMMAND: &str = "far-half";
/// The hidden command that makes this program the accounts' process.
pub(crate) const ACCOUNTS_COMMAND: &str = "accounts-host";
/// The hidden command that appends to a log whose syncs are counted.
#[cfg(feature = "journal-peers")]
pub(crate) const PEER_COMMAND: &str = "peer-appends";
/// The hidden command that does what is counted.
pub(crate) const INSTRUCTIONS_COMMAND: &str = "counted";
/// The hidden command that removes what a killed process leaves.
pub(crate) const SWEEP_COMMAND: &str = "sweep";
/// The hidden command that ties another program to its parent.
pub(crate) const TIED_COMMAND: &str = "tied";

/// A command that runs this program again, whatever its file is called by now.
pub(crate) fn this_program() -> Result<Command, Error> {
    Ok(Command::new(
        std::env::current_exe().map_err(doing("finding this program's own file"))?,
    ))
}

/// Asks the kernel to kill this process when its parent dies.
pub(crate) fn die_with_parent() -> Result<(), Error> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(doing("tying a process to its parent"))?;
    // A parent that died just before has been replaced by a reaper, which will not die.
    if getppid() != parent {
        std::process::exit(1);
    }
    Ok(())
}

/// Becomes `program`, tied to the parent of this process.
pub(crate) fn become_program(program: &str, arguments: &[String]) -> Result<(), Error> {
    die_with_parent()?;
    Err(doing(format!("starting {program}"))(
        Command::new(program).args(arguments).exec(),
    ))
}

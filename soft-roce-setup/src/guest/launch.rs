//! The step between this program and QEMU: a fresh process asks to die with its parent, and becomes QEMU.
//!
//! A parent-death signal survives `exec`, and asking for it after `exec` of ourselves needs no unsafe code.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand: `launch PARENT PROGRAM ARGUMENT…`.
pub(crate) const SUBCOMMAND: &str = "launch";

#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot ask to end with the parent: {0}")]
    DeathSignal(rustix::io::Errno),
    #[error("the parent has ended already")]
    Orphan,
    #[error("cannot run {program:?}: {source}")]
    Exec {
        program: OsString,
        source: std::io::Error,
    },
}

/// Becomes `program`; returns only on failure.
pub(crate) fn launch(parent: u32, program: OsString, arguments: Vec<OsString>) -> LaunchError {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return LaunchError::DeathSignal(error);
    }
    // The parent may have ended before the request was made; then no signal would ever come.
    if getppid()
        .map(Pid::as_raw_nonzero)
        .is_none_or(|pid| u32::try_from(pid.get()) != Ok(parent))
    {
        return LaunchError::Orphan;
    }
    let source = Command::new(&program).args(arguments).exec();
    LaunchError::Exec { program, source }
}

//! The exit statuses of `run`, apart from the command's own: those of shells and of `timeout`.

/// The command did not end in time.
pub(crate) const DEADLINE_PASSED: i32 = 124;
/// This program failed, not the command it ran.
pub(crate) const OWN_FAILURE: i32 = 125;
/// The command is there, and no program.
pub(crate) const NOT_EXECUTABLE: i32 = 126;
/// There is no such command.
pub(crate) const NOT_FOUND: i32 = 127;

/// A signal ended it.
pub(crate) const fn of_signal(signal: i32) -> i32 {
    128 + signal
}

//! What this program says itself. Nobody may be listening, which is no reason to fail: `println!` would panic.

use std::fmt::Display;
use std::io::Write;

/// An answer, on standard output.
pub(crate) fn print(words: impl Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{words}").and_then(|()| stdout.flush());
}

/// A remark beside the answer or the command's output, on standard error.
pub(crate) fn remark(words: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "soft-roce-setup: {words}");
}

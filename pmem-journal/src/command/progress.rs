//! How far a long piece of work is, on standard error where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use pmem_journal::{Progress, Reader};

use super::Outcome;

/// Counts segments; shows nothing where standard error is no terminal.
pub(crate) struct Segments {
    bar: ProgressBar,
    first: u64,
}

impl Segments {
    /// For work that goes through all segments of the journal.
    pub(crate) fn of(reader: &Reader, what: &'static str) -> Segments {
        let sealed = reader.sealed_segments().unwrap_or_default();
        let bar = ProgressBar::new(sealed.len() as u64 + 1);
        let style = ProgressStyle::with_template("{msg} [{bar:30}] segment {pos} of {len}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        let first = sealed.first().map_or(0, |segment| segment.index);
        Segments { bar, first }
    }

    pub(crate) fn show(&self, progress: Progress) {
        self.bar.set_position(progress.segment.saturating_sub(self.first));
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Counts events.
pub(crate) fn events(what: &'static str, work: impl FnOnce(&ProgressBar) -> Outcome) -> Outcome {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{msg} {pos} events, {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(what);
    let outcome = work(&bar);
    bar.finish_and_clear();
    outcome
}

//! Where a batch stands.

use crate::event::Appended;

/// The batch that a key was used in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) sequence: u64,
}

impl Span {
    pub(crate) fn appended(self, duplicate: bool) -> Appended {
        Appended {
            first_position: self.first,
            last_position: self.last,
            sequence: self.sequence,
            duplicate,
        }
    }
}

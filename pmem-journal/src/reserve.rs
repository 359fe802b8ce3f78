//! Space set aside for the day the disk is full: what makes room (dropping, compacting, snapshots) can still write.
//!
//! The reserve is a file of zeroes. What has no room is written over it, in blocks that are the journal's already, so
//! nobody else can take them in between; the file is then cut and renamed to what it has become. A reserve that was
//! used is made again as soon as there is room. Losing it loses nothing.

use std::io;

use crate::medium::{Access, Medium};

/// Name of the file.
pub(crate) const NAME: &str = "reserve";
/// Largest reserve in bytes.
pub(crate) const MAX: u64 = 1 << 30;
/// What is not worth setting aside.
const LEAST: u64 = 4096;

/// Stores a file, in the reserve if the disk is full.
pub(crate) fn store(medium: &dyn Medium, name: &str, bytes: &[u8]) -> io::Result<()> {
    match medium.store(name, bytes) {
        Err(e) if is_full(&e) && held(medium) >= bytes.len() as u64 => medium.store_over(NAME, name, bytes),
        other => other,
    }
}

/// Whether a lack of space is the reason.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Bytes that the reserve holds now.
pub(crate) fn held(medium: &dyn Medium) -> u64 {
    let file = medium.open(NAME, Access::Read);
    file.and_then(|file| file.len()).unwrap_or(0)
}

/// Makes the reserve if it is missing or too small, or removes it if it is not wanted.
pub(crate) fn refill(medium: &dyn Medium, wanted: u64) -> io::Result<()> {
    let held = held(medium);
    if wanted == 0 && held > 0 {
        return medium.remove(NAME);
    }
    if held >= wanted {
        return Ok(());
    }
    let mut bytes = wanted.min(MAX);
    loop {
        match medium.store(NAME, &vec![0; bytes as usize]) {
            // Half of it is better than none, and none is better than giving up what there is.
            Err(e) if is_full(&e) && bytes / 2 > held.max(LEAST) => bytes /= 2,
            other => return other,
        }
    }
}

//! A reader of memory that sleeps, and whoever must wake it: one word, and a promise that no wake-up is lost.
//!
//! The reader *announces* that it is about to sleep, then looks at the memory once more. A writer writes, then asks
//! [`must_wake`]. A sequentially consistent fence stands between the two steps on both sides, so at least one of the two
//! sees what the other stored: either the reader finds what was written and does not sleep, or one writer is told to
//! wake it. How it is woken is the caller's business; a wake-up must stay until the reader has seen it.

use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// The reader is about to sleep. It must look at the memory again after this, and sleep only if nothing is there.
#[inline]
pub fn announce(dozing: &AtomicU64) {
    // A swap, so that it stands after those of writers who answered earlier sleeps.
    dozing.swap(1, Ordering::Relaxed);
    // Between the word before and the look at the memory after; pairs with the fence in `must_wake`.
    fence(Ordering::SeqCst);
}

/// The reader is awake. Whether a writer has taken it upon itself to wake it: then that wake-up has come, or is on its way.
#[inline]
pub fn withdraw(dozing: &AtomicU64) -> bool {
    dozing.swap(0, Ordering::Relaxed) == 0
}

/// Called by a writer after it has written: whether it must wake the reader. Of several writers one is told so.
#[inline]
pub fn must_wake(dozing: &AtomicU64) -> bool {
    // Between the write before and the look at the word after; pairs with the fence in `announce`.
    fence(Ordering::SeqCst);
    dozing.load(Ordering::Relaxed) != 0 && dozing.swap(0, Ordering::Relaxed) != 0
}

//! Where the atomics and locks of rings and of waiting come from: the standard library; or, under `--cfg loom`, `loom`,
//! which then runs those very lines in every order that the memory model allows. See `models`.

#[cfg(loom)]
mod checked;
#[cfg(loom)]
mod shadow;

#[cfg(loom)]
#[cfg_attr(not(test), allow(unused_imports))]
pub(crate) use checked::{Site, seen};
#[cfg(loom)]
pub(crate) use shadow::Shadow;

#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Atomics whose orderings are checked.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    #[cfg(loom)]
    pub(crate) use super::checked::{AtomicBool, AtomicU64, Ordering, fence};
}

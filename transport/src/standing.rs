//! Whether a task that drives a node is awake, asleep or called: one word, on which no wake-up is lost.
//!
//! Every step reads and writes the word at once, so the steps have an order. Whoever calls before the task falls asleep keeps
//! it awake; whoever calls after that is told to wake it. How it is woken is the caller's business; a wake-up must stay until
//! the task has seen it.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const AWAKE: u64 = 0;
const ASLEEP: u64 = 1;
const CALLED: u64 = 2;

/// How a task stands.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicU64);

impl Standing {
    /// The task is to make a pass, and will see in it what was written before this. Whether it has to be woken.
    #[must_use]
    pub(crate) fn call(&self) -> bool {
        self.0.swap(CALLED, Ordering::Release) == ASLEEP
    }

    /// The task is to wake, but for no pass. What it is to find then stands under a lock that it takes after
    /// [`Standing::fall_asleep`]. Whether it has to be woken.
    #[must_use]
    pub(crate) fn rouse(&self) -> bool {
        self.0
            .compare_exchange(ASLEEP, AWAKE, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Called by the task before it looks at everything: whoever called until now is served.
    pub(crate) fn begin_pass(&self) {
        self.0.swap(AWAKE, Ordering::Acquire);
    }

    /// Called by the task before it looks a last time for what it may be roused for. False when it has been called.
    #[must_use]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.0
            .compare_exchange(AWAKE, ASLEEP, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The task has been called since it fell asleep.
    pub(crate) fn is_called(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CALLED
    }

    /// Neither has it been called nor roused.
    pub(crate) fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ASLEEP
    }
}

/// Whether the task was turned away, because somebody else is driving, and is to be called when that is over.
///
/// Both steps read and write the word at once. If the task's comes first, the other finds the word; if it comes second, the
/// task finds that nobody drives.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway(AtomicBool);

impl TurnedAway {
    /// Called by the task that was turned away. It tries once more before it sleeps.
    pub(crate) fn leave_word(&self) {
        self.0.swap(true, Ordering::Acquire);
    }

    /// Called by whoever drove and has let go: whether the task is to be called.
    #[must_use]
    pub(crate) fn take_word(&self) -> bool {
        self.0.swap(false, Ordering::Release)
    }
}

//! The time that events carry: the kernel's coarse clock, looked at once in a while.
//!
//! Even the coarse clock costs an append on persistent memory a tenth of its time, so between two looks the CPU's cycle
//! counter says whether it is time to look again. If that counter is wrong, times are older by as much, and still never
//! go backwards.

use rustix::time::{ClockId, clock_gettime};

/// Cycles between two looks: a third of a millisecond or so.
const CYCLES: u64 = 1 << 20;

#[derive(Default)]
pub(crate) struct Clock {
    looked: u64,
    nanoseconds: u64,
}

impl Clock {
    /// Nanoseconds since 1970, as of 1 to 10 ms ago.
    #[inline]
    pub(crate) fn now(&mut self) -> u64 {
        let cycles = cycles();
        if self.nanoseconds == 0 || cycles.wrapping_sub(self.looked) > CYCLES {
            self.looked = cycles;
            self.nanoseconds = look();
        }
        self.nanoseconds
    }
}

#[cold]
fn look() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn cycles() -> u64 {
    // SAFETY: reads a counter that every x86_64 CPU has; it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Elsewhere every call looks.
#[cfg(not(target_arch = "x86_64"))]
fn cycles() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(CYCLES + 1, Ordering::Relaxed)
}

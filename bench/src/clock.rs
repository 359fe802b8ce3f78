//! Three clocks: ticks to time one message with, nanoseconds that two processes of a host agree on, and the
//! CPU time of this process.
//!
//! A tick costs one instruction where the processor has a counter, as perftest's do: in a guest whose clock
//! is emulated, asking the kernel once a message would cost more than the message.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// How long ticks are counted against the kernel's clock to learn their length.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Now, in ticks since an arbitrary moment.
#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86_64 processor has RDTSC; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Now, in ticks since an arbitrary moment.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    monotonic_ns()
}

/// The length of a tick in nanoseconds. The first call of a process takes 20 ms.
pub(crate) fn ns_per_tick() -> f64 {
    static LENGTH: OnceLock<f64> = OnceLock::new();
    *LENGTH.get_or_init(|| {
        let (began, first) = (Instant::now(), ticks());
        std::thread::sleep(CALIBRATION);
        let (took, last) = (began.elapsed(), ticks());
        took.as_nanos() as f64 / last.saturating_sub(first).max(1) as f64
    })
}

/// Nanoseconds since boot: the same clock in every process of a host.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time that all threads of this process have used, user and system together.
pub(crate) fn cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_kernels_clock() {
        let length = ns_per_tick();
        let (began, first) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(50));
        let (last, took) = (ticks(), began.elapsed());
        let counted = (last - first) as f64 * length;
        let ratio = counted / took.as_nanos() as f64;
        assert!(
            (0.9..1.1).contains(&ratio),
            "ticks say {counted} ns, the kernel {took:?}"
        );
    }

    #[test]
    fn working_costs_cpu_time() {
        let before = cpu_ns();
        let mut x = 1u64;
        for i in 0..1_000_000u64 {
            x = std::hint::black_box(x.wrapping_mul(i | 1));
        }
        assert!(cpu_ns() > before);
    }
}

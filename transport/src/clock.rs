//! A clock that costs next to nothing to read: for how old things are, never for deadlines.

use std::time::Duration;

/// Milliseconds since some time before the program started, as of the system's last timer tick (1 to 10 ms ago). Wraps
/// after 49 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub(crate) fn now() -> Stamp {
        // Answered from memory that the kernel keeps current: no system call, and no clock device is read.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Stamp(
            (now.tv_sec as u32)
                .wrapping_mul(1000)
                .wrapping_add((now.tv_nsec / 1_000_000) as u32),
        )
    }

    pub(crate) fn age(self) -> Duration {
        Duration::from_millis(u64::from(Stamp::now().0.wrapping_sub(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_grows_with_time_and_survives_the_wrap() {
        let before = Stamp::now();
        std::thread::sleep(Duration::from_millis(50));
        assert!((Duration::from_millis(30)..Duration::from_secs(10)).contains(&before.age()));
        let wrapped = Stamp(Stamp::now().0.wrapping_sub(5));
        assert!(wrapped.age() >= Duration::from_millis(5) && wrapped.age() < Duration::from_secs(10));
    }
}

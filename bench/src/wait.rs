//! What a bare loop does while there is nothing to read: look again, give the CPU away, or sleep.
//!
//! Every loop of a floor waits through [`Idle`], which is what makes it impossible for a bench to hang: it
//! notices a peer that died and a link on which nothing moves.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::cores;
use crate::error::Error;

/// Without progress for this long a bench gives up.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(20);
/// Adaptive waiting looks this long before it sleeps.
const ADAPTIVE_SPIN: Duration = Duration::from_micros(100);
/// Looks between two offers of the CPU to others, where every process can have a core.
const LOOKS_BETWEEN_YIELDS: u32 = 64;
/// The same where the two processes share one core: the other one needs it now.
const LOOKS_BETWEEN_YIELDS_ON_ONE_CORE: u32 = 2;

/// The waiting strategies, those of our transports and those of the floors beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Look again and again; the CPU is only offered, never let go.
    Spin,
    /// Look for a while, then sleep.
    Adaptive,
    /// Sleep at once.
    Park,
}

/// What to do after an empty look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Look,
    Sleep,
}

/// Set when the peer process is known to be gone.
pub(crate) type Gone = AtomicBool;

/// The waiting for one message.
pub(crate) struct Idle<'a> {
    wait: Wait,
    gone: &'a Gone,
    looks: u32,
    looks_between_yields: u32,
    /// In ticks: where the kernel's clock is emulated, reading it would be most of the wait.
    since: Option<u64>,
}

impl<'a> Idle<'a> {
    pub(crate) fn new(wait: Wait, gone: &'a Gone) -> Idle<'a> {
        Idle {
            wait,
            gone,
            looks: 0,
            looks_between_yields: looks_between_yields(),
            since: None,
        }
    }

    /// To be called when something was found.
    #[inline]
    pub(crate) fn found(&mut self) {
        self.looks = 0;
        self.since = None;
    }

    /// To be called when a look found nothing. A sleep must end by itself within a second.
    ///
    /// # Errors
    /// The peer is gone, or nothing was found for [`STALLED_AFTER`].
    #[inline]
    pub(crate) fn found_nothing(&mut self) -> Result<Next, Error> {
        self.looks += 1;
        if self.wait != Wait::Park && self.looks < self.looks_between_yields {
            std::hint::spin_loop();
            return Ok(Next::Look);
        }
        self.looks = 0;
        self.waited_a_while()
    }

    #[cold]
    fn waited_a_while(&mut self) -> Result<Next, Error> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(Error::PeerGone);
        }
        let now = clock::ticks();
        let ticks = now.saturating_sub(*self.since.get_or_insert(now));
        let waited = Duration::from_nanos((ticks as f64 * clock::ns_per_tick()) as u64);
        if waited > STALLED_AFTER {
            return Err(Error::Stalled(STALLED_AFTER));
        }
        match self.wait {
            Wait::Park => return Ok(Next::Sleep),
            Wait::Adaptive if waited > ADAPTIVE_SPIN => return Ok(Next::Sleep),
            Wait::Adaptive | Wait::Spin => {}
        }
        std::thread::yield_now();
        Ok(Next::Look)
    }
}

fn looks_between_yields() -> u32 {
    static LOOKS: OnceLock<u32> = OnceLock::new();
    *LOOKS.get_or_init(|| match cores::available() {
        1 => LOOKS_BETWEEN_YIELDS_ON_ONE_CORE,
        _ => LOOKS_BETWEEN_YIELDS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeps_within(wait: Wait, looks: u32) -> bool {
        let gone = Gone::new(false);
        let mut idle = Idle::new(wait, &gone);
        (0..looks).any(|_| idle.found_nothing().unwrap() == Next::Sleep)
    }

    #[test]
    fn parking_sleeps_at_once_adaptive_later_and_spinning_never() {
        assert!(sleeps_within(Wait::Park, 1));
        assert!(!sleeps_within(Wait::Adaptive, 1));
        assert!(sleeps_within(Wait::Adaptive, 10_000_000));
        assert!(!sleeps_within(Wait::Spin, 100_000));
    }

    #[test]
    fn a_dead_peer_ends_the_wait() {
        let gone = Gone::new(true);
        let mut idle = Idle::new(Wait::Spin, &gone);
        let ended = (0..1000).find_map(|_| idle.found_nothing().err());
        assert!(matches!(ended, Some(Error::PeerGone)));
    }
}

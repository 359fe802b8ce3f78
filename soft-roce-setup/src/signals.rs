//! Signals that end a run. They only raise a flag, which the waiting loops look at a few times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The last ending signal that came, if any.
#[derive(Clone)]
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    pub(crate) fn watch() -> std::io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let value = usize::try_from(signal).unwrap_or_default();
            signal_hook::flag::register_usize(signal, Arc::clone(&last), value)?;
        }
        Ok(Self { last })
    }

    pub(crate) fn received(&self) -> Option<i32> {
        i32::try_from(self.last.load(Ordering::SeqCst))
            .ok()
            .filter(|signal| *signal != 0)
    }
}

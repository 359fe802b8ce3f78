//! Whether a peer stands in the list of whoever pushes what others have committed and left: each peer once, and nothing that
//! was left stays behind.

use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether the peer is in the list, or is just being put there or taken out.
///
/// Whoever leaves something and finds it there leaves no more than that: who takes the peer out of the list first takes this
/// back and then pushes, so it sees all that was committed by those who found the peer there.
#[derive(Default)]
pub(crate) struct Postponed(AtomicBool);

impl Postponed {
    /// Leaves what this thread has committed to whoever owns the list: `list` puts the peer there, unless it is there. False
    /// when `list` says that nobody looks at it any more: then the caller pushes, for those as well who relied on the list
    /// in the meantime.
    #[cfg(any(feature = "tokio", all(loom, test)))]
    pub(crate) fn leave(&self, list: impl FnOnce() -> bool) -> bool {
        if self.0.swap(true, Ordering::Release) || list() {
            return true;
        }
        self.take_back();
        false
    }

    /// The peer is no longer in the list: what was left until then is for the caller to push.
    pub(crate) fn take_back(&self) {
        self.0.swap(false, Ordering::Acquire);
    }

    /// Whether something is left, as far as this thread has heard.
    pub(crate) fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

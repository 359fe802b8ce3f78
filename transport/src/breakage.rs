//! Deliberate breakages of the session code, so that the simulator can be seen to catch them. Compiled to nothing without
//! the feature `sim`.

/// What may be broken: each names the rule that is then not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breakage {
    /// A resumed session believes the peer's positions without looking whether frames start there.
    ResumesAnywhere,
    /// A new link pushes from what was released before, not from what the peer says it has consumed.
    PushesFromTheWrongPosition,
    /// A session tells what has arrived as consumed: acknowledges early.
    AcknowledgesEarly,
    /// The rings keep what came over the old link and was not consumed.
    ForgetsToForget,
    /// Consumed bytes are not zeroed.
    ForgetsToZero,
    /// Checksums are not looked at.
    BelievesEveryFrame,
    /// The old link goes on writing into the rings while the next one runs.
    KeepsTheOldLink,
    /// A session that is over is found again by who dials.
    RevivesTheDead,
    /// A session is resumed for a peer that was restarted.
    IgnoresIncarnations,
    /// What was not acknowledged does not become dead letters.
    ForgetsDeadLetters,
    /// Messages for closed mailboxes vanish.
    ForgetsUndelivered,
    /// Credit of mailboxes is not returned.
    ForgetsCredit,
    /// Mailboxes take what is beyond their credit.
    SendsBeyondCredit,
    /// A silent peer is never given up.
    NeverGivesUp,
    /// Handshakes count as success, whatever the link carries.
    TrustsHandshakes,
    /// Acknowledgements are told only when a quarter of a ring was consumed, never with a heartbeat.
    ForgetsToAcknowledge,
    /// Data goes before control, and control waits for it.
    DataBeforeControl,
    /// A frame that was lent to a handler that panicked is handed out again.
    RepeatsAfterAPanic,
    /// What the peer was told at a suspension is used although the session has been suspended again since.
    IgnoresLaterSuspensions,
}

#[cfg(feature = "sim")]
mod active {
    use std::cell::Cell;

    use super::Breakage;

    thread_local! {
        static BROKEN: Cell<Option<Breakage>> = const { Cell::new(None) };
    }

    /// Whether this is broken just now, on this thread.
    #[inline]
    pub(crate) fn is_broken(breakage: Breakage) -> bool {
        BROKEN.get() == Some(breakage)
    }

    /// Runs `what` on this thread with one thing broken.
    pub fn while_broken<T>(breakage: Breakage, what: impl FnOnce() -> T) -> T {
        BROKEN.set(Some(breakage));
        let result = what();
        BROKEN.set(None);
        result
    }
}

#[cfg(feature = "sim")]
pub(crate) use active::is_broken;
#[cfg(feature = "sim")]
pub use active::while_broken;

/// Whether this is broken: never, without the feature `sim`.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub(crate) const fn is_broken(_: Breakage) -> bool {
    false
}

//! Deliberate breakages of the session code, so that the simulator can be seen to catch them. Compiled to nothing without
//! the feature `sim`.

/// What may be broken: each names the rule that is then not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "sim"), allow(unreachable_pub))]
pub enum Breakage {
    /// A new link pushes from what was released before, not from what the peer says it has consumed.
    PushesFromTheWrongPosition,
    /// What has arrived is told as consumed: acknowledged early.
    AcknowledgesEarly,
    /// Any acknowledgement is taken for one of everything.
    ReleasesTooMuch,
    /// The rings are used anew while the old link may still write into them: without a new epoch.
    KeepsTheOldEpoch,
    /// A handle is given out again while messages to its old mailbox are under way.
    ForgetsHandlesTooEarly,
    /// The rings keep what came over the old link and was not consumed.
    ForgetsToForget,
    /// Checksums are not looked at.
    BelievesEveryFrame,
    /// What was not acknowledged does not become dead letters.
    ForgetsDeadLetters,
    /// Messages for closed mailboxes vanish.
    ForgetsUndelivered,
    /// That a message reached no mailbox is known to its sender alone.
    ForgetsLettersAtTheReceiver,
    /// That a message reached no mailbox does not acknowledge it.
    UndeliveredAcknowledgesNothing,
    /// Credit of mailboxes is not returned.
    ForgetsCredit,
    /// Mailboxes are sent more than their credit.
    SendsBeyondCredit,
    /// Control messages that have to wait for room are lost.
    LosesTheBacklog,
    /// A silent peer is never given up.
    NeverGivesUp,
    /// A peer counts as gone also where somebody else refuses in its name.
    BelievesEveryRefusal,
    /// A message whose handler panicked is handed out again.
    RepeatsAfterAPanic,
}

#[cfg(feature = "sim")]
impl Breakage {
    /// Every one.
    pub const ALL: [Breakage; 17] = [
        Breakage::PushesFromTheWrongPosition,
        Breakage::AcknowledgesEarly,
        Breakage::ReleasesTooMuch,
        Breakage::KeepsTheOldEpoch,
        Breakage::ForgetsHandlesTooEarly,
        Breakage::ForgetsToForget,
        Breakage::BelievesEveryFrame,
        Breakage::ForgetsDeadLetters,
        Breakage::ForgetsUndelivered,
        Breakage::ForgetsLettersAtTheReceiver,
        Breakage::UndeliveredAcknowledgesNothing,
        Breakage::ForgetsCredit,
        Breakage::SendsBeyondCredit,
        Breakage::LosesTheBacklog,
        Breakage::NeverGivesUp,
        Breakage::BelievesEveryRefusal,
        Breakage::RepeatsAfterAPanic,
    ];
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

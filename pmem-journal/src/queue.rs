//! Whose turn it is to sync: the first who finds nobody syncing leads, the others wait at the gate.
//!
//! It knows nothing of journals, so that the model checker runs this code and not a copy of it (`tests/model_checked.rs`).

use crate::gate::Gate;
use crate::sync::Patience;

/// What the lock protects of it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    syncing: bool,
    ended: u64,
}

/// What to do to have something durable.
pub(crate) enum Turn {
    /// Nothing: it is.
    Done,
    /// Wait until more than this many syncs have ended.
    Follow(u64),
    /// Sync. Nobody else does until [`Queue::end`].
    Lead,
}

impl Queue {
    /// Whose turn it is, for somebody who waits for `end` where everything below `durable` is durable.
    pub(crate) fn turn(&mut self, durable: u64, end: u64) -> Turn {
        if durable >= end {
            Turn::Done
        } else if self.syncing {
            Turn::Follow(self.ended)
        } else {
            self.syncing = true;
            Turn::Lead
        }
    }

    /// Whether a sync is under way.
    pub(crate) fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// A sync has begun that nobody waited to lead; answers its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.syncing = true;
        self.ended + 1
    }

    /// The sync has ended, well or badly; answers how many have.
    pub(crate) fn end(&mut self) -> u64 {
        self.syncing = false;
        self.ended += 1;
        self.ended
    }
}

/// What has a queue, a lock around it, and something to sync.
pub(crate) trait Commits {
    type Held<'a>
    where
        Self: 'a;
    type Error;

    /// Takes the lock.
    fn hold(&self) -> Self::Held<'_>;
    /// [`Queue::turn`], or why nothing more becomes durable.
    fn turn(&self, held: &mut Self::Held<'_>, end: u64) -> Result<Turn, Self::Error>;
    /// How long following is worth watching before sleeping.
    fn patience(&self, held: &Self::Held<'_>) -> Patience;
    /// Gathers, gives up the lock, syncs, and takes it again for [`Queue::end`]: answers how many syncs have ended and what
    /// is durable.
    fn sync(&self, held: Self::Held<'_>) -> (u64, u64);
    fn gate(&self) -> &Gate;
}

/// Returns once everything below `end` is durable, syncing if nobody else does.
pub(crate) fn commit<'a, C: Commits>(
    commits: &'a C,
    mut held: C::Held<'a>,
    end: u64,
) -> Result<(), C::Error> {
    loop {
        let durable = match commits.turn(&mut held, end)? {
            Turn::Done => return Ok(()),
            Turn::Follow(ended) => {
                let patience = commits.patience(&held);
                drop(held);
                commits.gate().wait(ended, patience)
            }
            Turn::Lead => {
                let (ended, durable) = commits.sync(held);
                // Without the lock: whoever wakes wants it.
                commits.gate().open(ended, durable);
                durable
            }
        };
        if durable >= end {
            return Ok(());
        }
        held = commits.hold();
    }
}

//! Retention: the oldest segments go, by age, by size or by position, as far as snapshots cover what is in them.
//!
//! Nothing is dropped that [`covers`](crate::coverage) does not allow, that a projection has still to see, or while a
//! backup is being copied; the answer says what holds the rest. A caller whose events need no snapshots says so.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use crate::coverage::{Coverage, Guards, SNAPSHOTS, slowest_projection};
use crate::error::Result;
use crate::event::EntityId;
use crate::indexes::Indexes;
use crate::journal::Journal;
use crate::listing::Listing;
use crate::medium::Medium;
use crate::sealed_records::Sealed;
use crate::segment;
use crate::upkeep::Upkeep;

/// Which segments may go: those that any of the rules names. Without a rule none may.
///
/// ```
/// use pmem_journal::Retention;
/// use std::time::Duration;
///
/// let a_month_or_100_gb = Retention::new()
///     .older_than(Duration::from_secs(30 * 24 * 3600))
///     .larger_than(100 << 30);
/// ```
#[derive(Clone, Debug)]
pub struct Retention {
    older_than: Option<Duration>,
    larger_than: Option<u64>,
    below: Option<u64>,
    snapshots: usize,
    dry_run: bool,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            older_than: None,
            larger_than: None,
            below: None,
            snapshots: SNAPSHOTS,
            dry_run: false,
        }
    }
}

impl Retention {
    /// No rule.
    pub fn new() -> Retention {
        Retention::default()
    }

    /// Segments whose newest event is older than this. By the journal's clock, which never goes back.
    #[must_use]
    pub fn older_than(self, age: Duration) -> Retention {
        Retention {
            older_than: Some(age),
            ..self
        }
    }

    /// The oldest segments, while all of them together have more than this many bytes.
    #[must_use]
    pub fn larger_than(self, bytes: u64) -> Retention {
        Retention {
            larger_than: Some(bytes),
            ..self
        }
    }

    /// Segments whose events are all below this position.
    #[must_use]
    pub fn below(self, position: u64) -> Retention {
        Retention {
            below: Some(position),
            ..self
        }
    }

    /// How many verified snapshots of its entity must be of an event or a later one before it may go; at least 1, default
    /// 2: then a bad newest snapshot loses nothing. (With 2, an entity of which one snapshot was saved holds its events.)
    #[must_use]
    pub fn covered_by(self, snapshots: usize) -> Retention {
        Retention {
            snapshots: snapshots.max(1),
            ..self
        }
    }

    /// Snapshots are not asked for: what goes is gone. For events that nobody replays to a state, such as measurements.
    #[must_use]
    pub fn without_snapshots(self) -> Retention {
        Retention { snapshots: 0, ..self }
    }

    /// Only says what would go.
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Retention {
        Retention { dry_run, ..self }
    }
}

/// What retention did, or with a dry run would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// Segments dropped.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Position of the first event that is kept, if any segment was dropped.
    pub first_position: Option<u64>,
    /// Why a segment that the rules name is still there.
    pub held: Option<Held>,
}

/// What holds a segment that the rules name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Held {
    /// Too few good snapshots of this entity are of this event or a later one: save some.
    Uncovered {
        /// The segment's number.
        segment: u64,
        /// The entity.
        entity: EntityId,
        /// Its last sequence in the segment.
        sequence: u64,
        /// Its sequence up to which enough snapshots cover.
        covered: u64,
    },
    /// A projection has still to see it: run it, or remove its cursor.
    Projection {
        /// Its name.
        name: String,
        /// Position of the next event it will see.
        position: u64,
    },
    /// A backup is being copied: try again later.
    Backup,
}

impl Journal {
    /// Drops the oldest sealed segments that the rules name, as far as snapshots cover them and projections have seen
    /// them, and says what holds the others.
    ///
    /// Appending and reading go on. It works on a full disk, from [reserved](crate::Options::reserve) space. After a crash
    /// anywhere in it, the next open completes it or finds everything as it was.
    pub fn retain(&self, rules: &Retention) -> Result<Retained> {
        let Some(_upkeep) = Upkeep::to_change(self.dir())? else {
            let held = Some(Held::Backup);
            return Ok(Retained {
                held,
                ..Retained::default()
            });
        };
        self.retain_guarded(rules, Guards::ALL)
    }

    pub(crate) fn retain_guarded(&self, rules: &Retention, guards: Guards) -> Result<Retained> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (medium, indexes, journal, end) = {
            let state = self.lock();
            state.refuse_if_poisoned()?;
            (
                Arc::clone(&state.medium),
                Arc::clone(state.index.indexes()),
                state.segment.header.journal,
                state.durable_events(),
            )
        };
        let mut coverage = Coverage::new(&*medium, journal, end, rules.snapshots, guards)?;
        let slowest = slowest_projection(&*medium, &journal)?;
        let plan = plan(&*medium, &indexes, &mut coverage, slowest, rules)?;
        if let (Some(position), false) = (plan.first_position, rules.dry_run) {
            self.drop_segments_below(position)?;
        }
        Ok(plan)
    }
}

/// What may go.
fn plan(
    medium: &dyn Medium,
    indexes: &Indexes,
    coverage: &mut Coverage<'_>,
    slowest: Option<(String, u64)>,
    rules: &Retention,
) -> Result<Retained> {
    let mut sealed = Vec::new();
    let mut total = 0;
    let listed = Listing::read(medium)?.segments;
    for index in &listed {
        let (_, _, header) = segment::open(medium, *index)?;
        total += header.size;
        sealed.extend(Sealed::open(medium, *index)?);
    }
    // The last segment is never dropped, sealed or not.
    sealed.truncate(listed.len().saturating_sub(1));
    let mut out = Retained::default();
    for segment in sealed {
        let (header, footer) = (&segment.header, &segment.footer);
        let newest = SystemTime::UNIX_EPOCH + Duration::from_nanos(footer.timestamp);
        let age = SystemTime::now().duration_since(newest).unwrap_or_default();
        let named = rules.older_than.is_some_and(|limit| age > limit)
            || rules.larger_than.is_some_and(|limit| total - out.bytes > limit)
            || rules
                .below
                .is_some_and(|position| footer.next_position <= position);
        if !named {
            break;
        }
        if let Some((name, position)) = &slowest
            && *position < footer.next_position
        {
            let (name, position) = (name.clone(), *position);
            out.held = Some(Held::Projection { name, position });
            break;
        }
        if let Some(held) = uncovered(header.index, indexes, coverage)? {
            out.held = Some(held);
            break;
        }
        out.segments += 1;
        out.bytes += header.size;
        out.first_position = Some(footer.next_position);
    }
    Ok(out)
}

/// An entity whose events in the segment are not all covered.
fn uncovered(segment: u64, indexes: &Indexes, coverage: &mut Coverage<'_>) -> Result<Option<Held>> {
    let entities = indexes.look(segment, |at| {
        let mut entities = Vec::new();
        at.index
            .for_each_entity(|entity, sequence| entities.push((entity, sequence)))?;
        Ok(entities)
    })?;
    for (entity, sequence) in entities {
        let covered = coverage.of(entity)?;
        if sequence > covered {
            return Ok(Some(Held::Uncovered {
                segment,
                entity: EntityId(entity),
                sequence,
                covered,
            }));
        }
    }
    Ok(None)
}

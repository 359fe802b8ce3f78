//! Compaction: a sealed segment is replaced by a shorter one without the batches that snapshots cover.
//!
//! What stays is copied byte for byte, checksums included, so positions, sequences and times stay what they were and
//! damage cannot hide behind a new checksum. A batch goes only if all its events may go; the newest event of each
//! entity always stays, because sequences go on from it. The new segment is whole and durable before it takes the old
//! one's name. If a crash undoes that, the old one is there, which is as good: nothing waits for the name.

use std::sync::{Arc, PoisonError};

use crate::coverage::{Coverage, Guards, SNAPSHOTS, slowest_projection};
use crate::error::{Error, Result};
use crate::format::{CONTROL_EPOCH, FLAG_BATCH_END, padded};
use crate::journal::Journal;
use crate::listing::Listing;
use crate::reserve::Reserve;
use crate::retention::Held;
use crate::scan::{Checks, Scanner, Step};
use crate::sealed_records::Sealed;
use crate::segment::{DATA, FOOTER, Footer, HUGE_PAGE, Header, MIN_SIZE};
use crate::upkeep::Upkeep;

/// What compaction may take out.
#[derive(Clone, Debug)]
pub struct Compaction {
    snapshots: usize,
    dry_run: bool,
}

impl Default for Compaction {
    fn default() -> Compaction {
        Compaction {
            snapshots: SNAPSHOTS,
            dry_run: false,
        }
    }
}

impl Compaction {
    /// Events that two snapshots of their entity cover.
    pub fn new() -> Compaction {
        Compaction::default()
    }

    /// How many verified snapshots of its entity must be of an event or a later one before it may go; at least 1, default
    /// 2.
    #[must_use]
    pub fn covered_by(self, snapshots: usize) -> Compaction {
        Compaction {
            snapshots: snapshots.max(1),
            ..self
        }
    }

    /// Of each entity only the newest batch stays, whatever snapshots there are. For events that each replace the one
    /// before.
    #[must_use]
    pub fn newest_only(self) -> Compaction {
        Compaction { snapshots: 0, ..self }
    }

    /// Only says what would go.
    #[must_use]
    pub fn dry_run(self, dry_run: bool) -> Compaction {
        Compaction { dry_run, ..self }
    }
}

/// What compaction did, or with a dry run would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Segments replaced by shorter ones.
    pub segments: u64,
    /// Events taken out.
    pub events: u64,
    /// Bytes given back.
    pub bytes: u64,
    /// What kept it from going on.
    pub held: Option<Held>,
}

/// A segment rewritten.
struct Rewritten {
    bytes: Vec<u8>,
    events: u64,
}

impl Journal {
    /// Takes batches whose events are all covered by snapshots out of sealed segments, which become shorter.
    ///
    /// Events that a projection has still to see stay. Appending and reading go on; a reader that is in the middle of a
    /// segment reads the old one to its end. Idempotency keys of what goes are forgotten. It works on a full disk as
    /// long as what stays of a segment fits into [reserved](crate::Options::reserve) space; it needs as much memory.
    pub fn compact(&self, what: &Compaction) -> Result<Compacted> {
        let Some(_upkeep) = Upkeep::to_change(self.dir())? else {
            return Ok(Compacted {
                held: Some(Held::Backup),
                ..Compacted::default()
            });
        };
        self.compact_guarded(what, Guards::ALL)
    }

    pub(crate) fn compact_guarded(&self, what: &Compaction, guards: Guards) -> Result<Compacted> {
        let _one = self.dropping.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut coverage = Coverage::new(&*medium, journal, end, what.snapshots, guards)?;
        let slowest = slowest_projection(&*medium, &journal)?;
        let below = slowest.as_ref().map_or(u64::MAX, |(_, position)| *position);
        let mut out = Compacted::default();
        let listed = Listing::read(&*medium)?.segments;
        // Never the last: recovery reads it, and appends may go on in it.
        for index in listed.iter().rev().skip(1).rev() {
            let Some(sealed) = Sealed::open(&*medium, *index)? else {
                break;
            };
            if sealed.header.first_position >= below {
                if let Some((name, position)) = slowest {
                    out.held = Some(Held::Projection { name, position });
                }
                break;
            }
            let may_go = |entity, sequence, position| -> Result<bool> {
                let newest = || self.sequence(crate::event::EntityId(entity));
                Ok(position < below
                    && sequence <= coverage.of(entity)?
                    && (!guards.newest || sequence < newest()?))
            };
            let Some(new) = rewrite(&sealed, may_go)? else {
                continue;
            };
            out.segments += 1;
            out.events += new.events;
            out.bytes += sealed.header.size - new.bytes.len() as u64;
            if !what.dry_run {
                // The newer events that made these superfluous may still be on their way.
                self.settle()?;
                replace(&self.reserve, &sealed.name, &new.bytes)?;
                indexes.forget(*index);
                self.reserve.refill();
            }
        }
        Ok(out)
    }
}

/// The segment without the batches that may go; `None` if that would not make it shorter.
fn rewrite(
    sealed: &Sealed,
    mut may_go: impl FnMut(u128, u64, u64) -> Result<bool>,
) -> Result<Option<Rewritten>> {
    let (header, footer) = (&sealed.header, &sealed.footer);
    let mut scanner = Scanner::new(header, footer.end, Checks::ALL);
    let mut bytes = vec![0; DATA as usize];
    let mut batch = Vec::new();
    let (mut all_may_go, mut in_batch, mut events) = (true, 0, 0);
    loop {
        let at = scanner.offset;
        let step = scanner
            .step(&*sealed.file)
            .map_err(Error::io("read", &sealed.name))?;
        match step {
            Step::Record => {
                let record = *scanner.header();
                let padding = padded(record.len) - record.len;
                if record.is_control() {
                    // Of the journal's own records only those that begin an epoch mean something here.
                    if record.kind == CONTROL_EPOCH {
                        bytes.extend_from_slice(&scanner.record()[..record.len]);
                        bytes.resize(bytes.len() + padding, 0);
                    }
                    continue;
                }
                batch.extend_from_slice(&scanner.record()[..record.len]);
                batch.resize(batch.len() + padding, 0);
                in_batch += 1;
                all_may_go = all_may_go && may_go(record.entity, record.sequence, record.position)?;
                if record.flags & FLAG_BATCH_END != 0 {
                    if all_may_go {
                        events += in_batch;
                    } else {
                        bytes.extend_from_slice(&batch);
                    }
                    batch.clear();
                    (all_may_go, in_batch) = (true, 0);
                }
            }
            Step::End if at == footer.end => break,
            Step::End => return Err(sealed.corrupt(at, "nothing is written where something was durable")),
            Step::Invalid(cause) => return Err(sealed.corrupt(at, cause)),
        }
    }
    let end = bytes.len() as u64;
    let size = whole_size(end + FOOTER);
    if events == 0 || size >= header.size {
        return Ok(None);
    }
    bytes.resize(size as usize, 0);
    let new = Header {
        size,
        compacted: true,
        ..*header
    };
    let head = new.encode();
    bytes[..head.len()].copy_from_slice(&head);
    let tail = Footer { end, ..*footer }.encode();
    bytes[new.data_end() as usize..].copy_from_slice(&tail);
    Ok(Some(Rewritten { bytes, events }))
}

/// Sizes that a segment may have.
fn whole_size(bytes: u64) -> u64 {
    if bytes < HUGE_PAGE {
        bytes.next_multiple_of(4096).max(MIN_SIZE)
    } else {
        bytes.next_multiple_of(HUGE_PAGE)
    }
}

/// Puts the new bytes in the segment's place, where its link leads if it is one.
fn replace(reserve: &Reserve, name: &str, bytes: &[u8]) -> Result<()> {
    let medium = reserve.medium();
    let target = medium.read_link(name).map_err(Error::io("read the link", name))?;
    let stored = match &target {
        Some(elsewhere) => medium.store(elsewhere, bytes),
        None => reserve.store(name, bytes),
    };
    stored.map_err(Error::writing(
        target.as_deref().unwrap_or(name),
        bytes.len() as u64,
    ))
}

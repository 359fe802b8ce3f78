//! Which events snapshots stand for: what retention and compaction may take away.
//!
//! An event is covered when enough snapshots of its entity, each verified now, are of it or of a later one. With the
//! default of two, the newest may go bad and the one before it still has every event after it.

use std::collections::HashMap;
use std::io;

use crate::cursor;
use crate::error::{Error, Result};
use crate::event::EntityId;
use crate::format::JournalId;
use crate::medium::Medium;
use crate::snapshot_format::SnapshotChecks;
use crate::snapshot_slots::{self, DIRECTORY};

/// Snapshots that must cover an event before it may go.
pub(crate) const SNAPSHOTS: usize = 2;

/// Which guards stand. All of them, except where a test shows what each is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guards {
    /// Names of snapshots are made durable before they are relied on.
    pub(crate) names: bool,
    /// Snapshots are verified before they are relied on.
    pub(crate) verified: bool,
    /// What no snapshot covers stays.
    pub(crate) covered: bool,
    /// The newest event of an entity stays.
    pub(crate) newest: bool,
}

impl Guards {
    pub(crate) const ALL: Guards = Guards {
        names: true,
        verified: true,
        covered: true,
        newest: true,
    };
}

/// What is covered in one journal, looked up once for each entity.
pub(crate) struct Coverage<'a> {
    medium: &'a dyn Medium,
    journal: JournalId,
    end: u64,
    snapshots: usize,
    guards: Guards,
    known: HashMap<u128, u64>,
}

impl<'a> Coverage<'a> {
    /// `snapshots` of each entity must cover what goes; 0: everything counts as covered. `end` is the position below
    /// which everything is durable.
    pub(crate) fn new(
        medium: &'a dyn Medium,
        journal: JournalId,
        end: u64,
        snapshots: usize,
        guards: Guards,
    ) -> Result<Coverage<'a>> {
        if guards.names && snapshots > 0 {
            // A process that died may have named a snapshot without making the name durable.
            match medium.directory(DIRECTORY).sync_dir() {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("sync", DIRECTORY)(e)),
                _ => {}
            }
        }
        Ok(Coverage {
            medium,
            journal,
            end,
            snapshots,
            guards,
            known: HashMap::new(),
        })
    }

    /// The entity's events up to this sequence are covered.
    pub(crate) fn of(&mut self, entity: u128) -> Result<u64> {
        if self.snapshots == 0 || !self.guards.covered {
            return Ok(u64::MAX);
        }
        if let Some(known) = self.known.get(&entity) {
            return Ok(*known);
        }
        let checks = SnapshotChecks {
            header: self.guards.verified,
            payload: self.guards.verified,
        };
        let slots = snapshot_slots::slots(self.medium, &self.journal, EntityId(entity), self.end, checks)?;
        let mut sequences: Vec<u64> = slots
            .into_iter()
            .filter_map(|slot| slot.found.ok().map(|snapshot| snapshot.sequence))
            .collect();
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        let covered = sequences.get(self.snapshots - 1).copied().unwrap_or(0);
        self.known.insert(entity, covered);
        Ok(covered)
    }
}

/// The projection that has come least far, and its position.
pub(crate) fn slowest_projection(medium: &dyn Medium, journal: &JournalId) -> Result<Option<(String, u64)>> {
    let names = cursor::names(medium).map_err(Error::io("list", cursor::DIRECTORY))?;
    let mut slowest: Option<(String, u64)> = None;
    for name in names {
        let position = cursor::load(medium, journal, &name)?.position;
        if slowest.as_ref().is_none_or(|(_, least)| position < *least) {
            slowest = Some((name, position));
        }
    }
    Ok(slowest)
}

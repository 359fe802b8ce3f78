//! What lies beside the segments: every snapshot and every cursor, each looked at.

use crate::cursor;
use crate::error::{Error, Result};
use crate::event::EntityId;
use crate::history::journal_id;
use crate::medium::file::FileMedium;
use crate::medium::{Access, Medium};
use crate::reader::Reader;
use crate::snapshot::Snapshot;
use crate::snapshot_format::{self, SnapshotChecks};
use crate::snapshot_slots;

/// A snapshot's file and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSnapshot {
    /// The file, in the journal's directory.
    pub file: String,
    /// Whose it is, by its name.
    pub entity: EntityId,
    /// The snapshot, or what is wrong with it.
    pub found: std::result::Result<Snapshot, String>,
}

/// A projection and how far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedProjection {
    /// Its name.
    pub name: String,
    /// Position of the next event it will see, or what is wrong with its cursor.
    pub position: std::result::Result<u64, String>,
}

impl Reader {
    /// Calls `each` with every snapshot, by entity, each verified. One at a time is in memory.
    pub fn for_each_snapshot(&self, mut each: impl FnMut(ListedSnapshot)) -> Result<()> {
        let medium = FileMedium::new(self.dir());
        let journal = journal_id(&medium, self)?;
        for (file, entity) in
            snapshot_slots::files(&medium).map_err(Error::io("list", snapshot_slots::DIRECTORY))?
        {
            let found = match medium.open(&file, Access::Read) {
                // Replaced by a newer one in this instant.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => Err(e.to_string()),
                Ok(open) => snapshot_format::read(&*open, &journal, entity, SnapshotChecks::ALL),
            };
            each(ListedSnapshot { file, entity, found });
        }
        Ok(())
    }

    /// Every projection whose cursor lies in the journal's directory.
    pub fn projections(&self) -> Result<Vec<ListedProjection>> {
        let medium = FileMedium::new(self.dir());
        let journal = journal_id(&medium, self)?;
        let names = cursor::names(&medium).map_err(Error::io("list", cursor::DIRECTORY))?;
        let mut projections = Vec::new();
        for name in names {
            let position = cursor::load(&medium, &journal, &name)
                .map(|cursor| cursor.position)
                .map_err(|e| e.to_string());
            projections.push(ListedProjection { name, position });
        }
        Ok(projections)
    }
}

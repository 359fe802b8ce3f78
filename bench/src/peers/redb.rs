//! redb: a write transaction is a commit, one at a time.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, TableDefinition};

use super::Append;
use crate::appends::Log;
use crate::error::{Error, failed};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    let database = Database::create(folder.join("events.redb")).map_err(failed("opening redb"))?;
    Ok(Box::new(Redb {
        database,
        next: AtomicU64::new(0),
    }))
}

struct Redb {
    database: Database,
    next: AtomicU64,
}

impl Redb {
    /// Durable when the commit returns: `Durability::Immediate` is what a transaction has unless told otherwise.
    fn append(&self, event: &[u8], batch: usize) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(EVENTS)?;
            for _ in 0..batch {
                table.insert(self.next.fetch_add(1, Ordering::Relaxed), event)?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Log for Redb {
    fn writer<'a>(&'a self, _: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        Ok(Box::new(move || {
            self.append(event, batch).map_err(failed("appending to redb"))
        }))
    }
}

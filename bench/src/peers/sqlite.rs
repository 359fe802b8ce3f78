//! SQLite with a write-ahead log and `synchronous = FULL`: a transaction is a commit, one at a time. Writers share one
//! connection: waiting for its lock costs less than several connections that find the database busy.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::Append;
use crate::appends::Log;
use crate::error::{Error, failed};

const INSERT: &str = "INSERT INTO events (writer, payload) VALUES (?1, ?2)";

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    let opened = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(folder.join("events.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE events (position INTEGER PRIMARY KEY, writer INTEGER NOT NULL, payload BLOB NOT NULL)",
        )?;
        Ok(connection)
    };
    let connection = opened().map_err(failed("opening SQLite"))?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

struct Sqlite(Mutex<Connection>);

impl Sqlite {
    fn append(&self, writer: i64, event: &[u8], batch: usize) -> rusqlite::Result<()> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut insert = connection.prepare_cached(INSERT)?;
        if batch == 1 {
            // A statement alone is a transaction.
            return insert.execute((writer, event)).map(drop);
        }
        let transaction = connection.unchecked_transaction()?;
        for _ in 0..batch {
            insert.execute((writer, event))?;
        }
        drop(insert);
        transaction.commit()
    }
}

impl Log for Sqlite {
    fn writer<'a>(&'a self, writer: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        Ok(Box::new(move || {
            self.append(writer as i64, event, batch)
                .map_err(failed("appending to SQLite"))
        }))
    }
}

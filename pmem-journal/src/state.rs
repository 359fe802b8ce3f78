//! The journal's state: where the next record goes, and up to where everything is durable.
//!
//! `batch.rs` adds records to it, `commit.rs` and `rotation.rs` make them durable. Whatever leaves it unknown what is durable
//! poisons it: from then on every append is refused.

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::{self, CONTROL_CLOSE, Place};
use crate::group::Group;
use crate::index::Index;
use crate::indexer::Indexer;
use crate::lock::WriterLock;
use crate::medium::Medium;
use crate::publish::Publisher;
use crate::published::Published;
use crate::segment::Segment;
use crate::spare::SpareMaker;

/// What the lock of a [`Journal`](crate::Journal) protects.
pub(crate) struct State {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) spare: SpareMaker,
    pub(crate) indexer: Indexer,
    pub(crate) publisher: Publisher,
    pub(crate) published: Arc<Published>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) epoch: u32,
    pub(crate) salt: u32,
    /// Offset in the segment of the next record.
    pub(crate) offset: u64,
    pub(crate) next_position: u64,
    pub(crate) timestamp: u64,
    pub(crate) index: Index,
    /// Log position up to which everything is durable.
    pub(crate) durable: u64,
    /// Global position up to which everything is durable.
    pub(crate) durable_events: u64,
    /// Encoded and not yet written, ending at `offset`.
    pub(crate) pending: Vec<u8>,
    /// Records are written where they belong as they are encoded; `pending` stays empty.
    pub(crate) in_place: bool,
    pub(crate) scratch: Vec<u8>,
    pub(crate) clock: Clock,
    pub(crate) group: Group,
    pub(crate) poison: Option<Arc<str>>,
    pub(crate) closed: bool,
    /// Held as long as the journal is open.
    pub(crate) _lock: Option<WriterLock>,
}

impl State {
    /// Log position of the next record.
    pub(crate) fn log_end(&self) -> u64 {
        self.segment.header.log_position(self.offset)
    }

    pub(crate) fn poison(&mut self, cause: &str) -> Error {
        let cause: Arc<str> = cause.into();
        self.poison.get_or_insert(Arc::clone(&cause));
        Error::Poisoned { cause }
    }

    /// Poisons: `what` failed.
    #[cold]
    pub(crate) fn poison_by(&mut self, what: &str, e: &std::io::Error) -> Error {
        self.poison(&format!("{what} failed: {e}"))
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned {
                cause: Arc::clone(cause),
            }),
            None => Ok(()),
        }
    }

    /// Commits, under the lock, what was written into the segment.
    #[inline(always)]
    pub(crate) fn commit_here(&mut self) -> Result<()> {
        if self.durable == self.log_end() {
            return Ok(());
        }
        match self.segment.file.commit() {
            Ok(()) => self.committed(self.log_end(), self.next_position),
            Err(e) => Err(self.poison_by("a sync", &e)),
        }
    }

    /// Everything below these positions is durable.
    #[inline]
    pub(crate) fn committed(&mut self, log_position: u64, position: u64) -> Result<()> {
        self.durable = log_position;
        self.durable_events = position;
        self.publish().map_err(|e| self.poison_by("publishing", &e))
    }

    /// Tells readers in all processes what is durable.
    #[inline]
    pub(crate) fn publish(&self) -> std::io::Result<()> {
        self.publisher.publish(self.durable)?;
        if self.in_place {
            self.published.publish_quietly(self.durable);
        } else {
            self.published.publish(self.durable);
        }
        Ok(())
    }

    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    pub(crate) fn durable_events(&self) -> u64 {
        self.durable_events
    }

    pub(crate) fn write_control(&mut self, kind: u16) -> std::io::Result<()> {
        let place = Place {
            salt: self.salt,
            epoch: self.epoch,
            flags: 0,
            position: self.next_position,
            durable_gap: 0,
            sequence: 0,
            timestamp: self.timestamp,
        };
        let bytes = format::encode_control(kind, &place);
        self.segment.file.write_at(self.offset, &bytes)?;
        self.segment.file.commit()?;
        self.offset += bytes.len() as u64;
        self.durable = self.log_end();
        Ok(())
    }

    /// Notes a good end, where nothing speaks against it, after what dropped futures left behind.
    pub(crate) fn close(&mut self) -> std::io::Result<()> {
        self.end_sync_thread();
        // Batches whose futures were dropped.
        if self.durable != self.log_end() && self.poison.is_none() && !self.closed {
            if !self.pending.is_empty() {
                let at = self.offset - self.pending.len() as u64;
                self.segment.file.write_at(at, &self.pending)?;
            }
            self.segment.file.commit()?;
            self.pending.clear();
        }
        let room = self.offset + format::HEADER as u64 <= self.segment.header.data_end();
        if self.closed || self.poison.is_some() || !self.pending.is_empty() || !room {
            return Ok(());
        }
        self.closed = true;
        self.write_control(CONTROL_CLOSE)?;
        self.publish()
    }
}

//! From a full segment to the next: footer, header, name, each durable before the next.

use std::path::Path;
use std::sync::{Arc, MutexGuard};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::medium::{Medium, MediumFile};
use crate::segment::{self, DATA, Footer, Header, SPARE, Segment};
use crate::spare::SpareMaker;
use crate::state::State;

/// Sealed segments whose entities and keys may be kept in memory because they have no index yet.
const MOST_WAITING: usize = 4;

impl Journal {
    /// Seals the segment and goes on in a new one that has room for `bytes`.
    pub(crate) fn rotate<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: u64,
    ) -> Result<MutexGuard<'a, State>> {
        // The footer says that all below it is durable: nothing may be pending or on its way.
        while state.durable != state.log_end() {
            let end = state.log_end();
            state = self.commit_until(state, end)?;
            if state.offset + bytes <= state.segment.header.events_end() {
                return Ok(state);
            }
        }
        state.settle_indexes()?;
        let old = Arc::clone(&state.segment);
        let size = state.spare_size();
        if bytes > size - segment::OVERHEAD {
            return Err(Error::BatchTooLarge {
                len: bytes,
                max: size - segment::OVERHEAD,
            });
        }
        let next = Header {
            index: old.header.index + 1,
            size,
            base: old.header.log_position(state.offset),
            first_position: state.next_position,
            epoch: state.epoch,
            ..old.header
        };
        // Until the footer is written a lack of space leaves everything as it was.
        let file = state.spare.take().map_err(|e| no_space(e, size, &self.dir))?;
        let made = seal(
            &old,
            state.offset,
            state.next_position,
            state.epoch,
            state.timestamp,
        )
        .and_then(|()| name_segment(&*state.medium, file, next));
        match made {
            Ok(segment) => state.segment = Arc::new(segment),
            Err(e) => return Err(state.poison(&format!("starting segment {} failed: {e}", next.index))),
        }
        state.offset = DATA;
        state.spare.prepare(next.base);
        state.index.seal(old.header.index);
        state.indexer.ask(old.header.index);
        Ok(state)
    }
}

impl State {
    /// Forgets what indexes on the medium know by now; makes one if the thread that makes them is far behind.
    fn settle_indexes(&mut self) -> Result<()> {
        if let Some(done) = self.indexer.done() {
            self.index.indexed(done);
        }
        while self.index.waiting().count() > MOST_WAITING {
            let oldest = self.index.waiting().next().unwrap_or(0);
            self.index.indexes().ensure(oldest)?;
            self.index.indexed(oldest);
        }
        Ok(())
    }

    pub(crate) fn spare_size(&self) -> u64 {
        self.spare.size()
    }
}

pub(crate) fn seal(
    segment: &Segment,
    offset: u64,
    next_position: u64,
    epoch: u32,
    timestamp: u64,
) -> std::io::Result<()> {
    let footer = Footer {
        log_end: segment.header.log_position(offset),
        timestamp,
        index: segment.header.index,
        end: offset,
        next_position,
        epoch,
    };
    segment
        .file
        .write_at(segment.header.data_end(), &footer.encode())?;
    segment.file.commit()
}

pub(crate) fn make_segment(
    medium: &dyn Medium,
    spare: &mut SpareMaker,
    header: Header,
    dir: &Path,
) -> Result<Segment> {
    let file = spare.take().map_err(|e| no_space(e, header.size, dir))?;
    name_segment(medium, file, header).map_err(Error::io("start a segment in", dir))
}

/// Header durable, then the name, then the directory: the order that recovery relies on.
fn name_segment(medium: &dyn Medium, file: Box<dyn MediumFile>, header: Header) -> std::io::Result<Segment> {
    file.write_at(0, &header.encode())?;
    file.commit()?;
    medium.rename(SPARE, &segment::name(header.index))?;
    medium.sync_dir()?;
    Ok(Segment { header, file })
}

fn no_space(e: std::io::Error, segment_size: u64, dir: &Path) -> Error {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::NoSpace {
            segment_size,
            dir: dir.to_owned(),
        },
        _ => Error::io("make a segment in", dir)(e),
    }
}

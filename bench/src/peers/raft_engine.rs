//! raft-engine: a writer is a group, a log batch is a commit; what waits meanwhile shares a sync.

use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::Append;
use crate::appends::Log;
use crate::error::{Error, failed};

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    let config = Config {
        dir: folder.display().to_string(),
        // What is appended does not compress.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    Engine::open(config)
        .map(|engine| Box::new(RaftEngine(engine)) as _)
        .map_err(failed("opening raft-engine"))
}

struct RaftEngine(Engine);

/// An event, which begins with its index.
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        match entry.value.first_chunk() {
            Some(index) => u64::from_le_bytes(*index),
            None => 0,
        }
    }
}

impl Log for RaftEngine {
    fn writer<'a>(&'a self, writer: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        let mut entry = BytesValue::new();
        entry.value = event.to_vec();
        let mut entries = vec![entry; batch];
        let mut next = self.0.last_index(writer).map_or(1, |last| last + 1);
        Ok(Box::new(move || {
            for entry in &mut entries {
                if let Some(index) = entry.value.first_chunk_mut() {
                    *index = next.to_le_bytes();
                }
                next += 1;
            }
            let mut commit = LogBatch::default();
            commit
                .add_entries::<Indexed>(writer, &entries)
                .and_then(|()| self.0.write(&mut commit, true))
                .map(drop)
                .map_err(failed("appending to raft-engine"))
        }))
    }
}

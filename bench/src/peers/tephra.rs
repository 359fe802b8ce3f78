//! tephra: an append is a commit; its writer thread joins those that wait into one.

use std::path::Path;

use tephra::{
    Event, EventType, SegmentConfig, SegmentSet, Tag, Tags, WriteCoordinator, WriteHandle, WriterConfig,
};

use super::Append;
use crate::appends::Log;
use crate::error::{Error, failed};

/// As large as a segment of our journal.
const SEGMENT: usize = 64 << 20;

pub(super) fn open(folder: &Path) -> Result<Box<dyn Log>, Error> {
    let set = SegmentSet::open(folder, SegmentConfig::new(SEGMENT)).map_err(failed("opening tephra"))?;
    let (coordinator, handle) =
        WriteCoordinator::start(set, WriterConfig::default()).map_err(failed("starting tephra"))?;
    Ok(Box::new(Tephra {
        coordinator: Some(coordinator),
        handle,
    }))
}

struct Tephra {
    coordinator: Option<WriteCoordinator>,
    handle: WriteHandle,
}

impl Drop for Tephra {
    fn drop(&mut self) {
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.shutdown();
        }
    }
}

impl Log for Tephra {
    fn writer<'a>(&'a self, writer: u64, event: &'a [u8], batch: usize) -> Result<Append<'a>, Error> {
        let made = || -> Result<Event, Box<dyn std::error::Error + Send + Sync>> {
            let tag = Tag::new(format!("writer:{writer}"))?;
            Ok(Event::new(&EventType::new("event")?, &Tags::new([tag])?, event)?)
        };
        let events = vec![made().map_err(failed("making an event of tephra"))?; batch];
        Ok(Box::new(move || {
            self.handle
                .append(events.clone(), None)
                .map(drop)
                .map_err(failed("appending to tephra"))
        }))
    }
}

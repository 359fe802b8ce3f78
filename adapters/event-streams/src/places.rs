//! Where the events of the streams that somebody asked for stand in the journal.

use std::collections::HashMap;

use pmem_journal::{Appended, EntityId, Journal, Result, Selection};

/// Positions of the events of streams, up to some position of the journal.
pub(crate) struct Places {
    by_stream: HashMap<EntityId, Stream>,
    /// Everything before this position is in the map, as far as its stream is.
    until: u64,
}

/// Positions of a stream's events, without those that the journal has dropped.
#[derive(Default)]
struct Stream {
    /// How many events came before the first of these.
    dropped: u64,
    positions: Vec<u64>,
}

impl Stream {
    fn push(&mut self, sequence: u64, position: u64) {
        if self.positions.is_empty() {
            self.dropped = sequence - 1;
        }
        self.positions.push(position);
    }
}

impl Places {
    pub(crate) fn new(journal: &Journal) -> Places {
        Places {
            by_stream: HashMap::new(),
            until: journal.durable_position(),
        }
    }

    /// Makes sure that everything about a stream is known that is durable now.
    pub(crate) fn look_up(&mut self, journal: &Journal, stream: EntityId) -> Result<()> {
        if journal.durable_position() > self.until {
            let mut replay = journal.replay(self.until)?;
            while let Some(event) = replay.next_event()? {
                if let Some(stream) = self.by_stream.get_mut(&event.entity) {
                    stream.push(event.sequence, event.position);
                }
                self.until = event.position + 1;
            }
        }
        if !self.by_stream.contains_key(&stream) {
            let mut found = Stream::default();
            let mut selected = journal.reader().select(Selection::Entity(stream), None)?;
            while let Some(event) = selected.next_event()? {
                if event.position < self.until {
                    found.push(event.sequence, event.position);
                }
            }
            self.by_stream.insert(stream, found);
        }
        Ok(())
    }

    /// Takes in a batch just appended, if nothing before it is missing; otherwise it waits for [`Places::look_up`].
    pub(crate) fn note(&mut self, stream: EntityId, appended: &Appended) {
        if appended.first_position != self.until || appended.duplicate {
            return;
        }
        self.until = appended.last_position + 1;
        if let Some(stream) = self.by_stream.get_mut(&stream) {
            let places = appended.first_position..=appended.last_position;
            let first = appended.sequence - (appended.last_position - appended.first_position);
            for (position, sequence) in places.zip(first..) {
                stream.push(sequence, position);
            }
        }
    }

    /// The places of at most `limit` events of a stream, from its event number `from` on; the error is the number of the
    /// first that the journal still has.
    pub(crate) fn of(&self, stream: EntityId, from: u64, limit: usize) -> std::result::Result<Vec<u64>, u64> {
        let Some(stream) = self.by_stream.get(&stream) else {
            return Ok(Vec::new());
        };
        let start = from.checked_sub(stream.dropped).ok_or(stream.dropped)?;
        let start = usize::try_from(start)
            .unwrap_or(usize::MAX)
            .min(stream.positions.len());
        Ok(stream.positions[start..].iter().take(limit).copied().collect())
    }

    /// The place of the last event of a stream.
    pub(crate) fn last(&self, stream: EntityId) -> Option<u64> {
        self.by_stream.get(&stream)?.positions.last().copied()
    }
}

//! Where the events of the streams that somebody asked for stand in the journal.

use std::collections::HashMap;

use pmem_journal::{Appended, EntityId, Error, Journal, Result, Selection};

/// Positions of the events of streams, up to some position of the journal.
pub(crate) struct Places {
    by_stream: HashMap<EntityId, Stream>,
    /// Everything before this position is in the map, as far as its stream is.
    until: u64,
}

/// Positions of a stream's events, without those that the journal has dropped.
#[derive(Default)]
struct Stream {
    positions: Vec<u64>,
    /// Where events follow each other without gaps: the number of the first in the stream, and its place in `positions`. One
    /// run, or more where compaction has taken out what was between.
    runs: Vec<(u64, usize)>,
}

impl Stream {
    fn push(&mut self, sequence: u64, position: u64) {
        let number = sequence - 1;
        if self.end() != Some(number) {
            self.runs.push((number, self.positions.len()));
        }
        self.positions.push(position);
    }

    /// Number of the event that follows the last.
    fn end(&self) -> Option<u64> {
        let (number, at) = self.runs.last()?;
        Some(number + (self.positions.len() - at) as u64)
    }

    /// Place in `positions` of event number `from`, or of the first after it.
    fn place_of(&self, from: u64) -> usize {
        let after = self.runs.partition_point(|(number, _)| *number <= from);
        let end = self.runs.get(after).map_or(self.positions.len(), |(_, at)| *at);
        match after.checked_sub(1).map(|run| self.runs[run]) {
            Some((number, at)) => end.min(at.saturating_add((from - number) as usize)),
            None => end,
        }
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
            let mut replay = match journal.replay(self.until) {
                // What was to be looked at next is dropped by now: all is looked up anew.
                Err(Error::BelowFirst { .. }) => {
                    *self = Places::new(journal);
                    return self.look_up(journal, stream);
                }
                replay => replay?,
            };
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
        match stream.runs.first() {
            Some((first, _)) if from < *first => return Err(*first),
            _ => {}
        }
        let start = stream.place_of(from);
        Ok(stream.positions[start..].iter().take(limit).copied().collect())
    }

    /// Forgets the places of a stream, some of which the journal has dropped.
    pub(crate) fn forget(&mut self, stream: EntityId) {
        self.by_stream.remove(&stream);
    }

    /// The place of the last event of a stream.
    pub(crate) fn last(&self, stream: EntityId) -> Option<u64> {
        self.by_stream.get(&stream)?.positions.last().copied()
    }
}

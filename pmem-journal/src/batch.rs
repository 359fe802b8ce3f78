//! A batch on its way in: checked against limits, keys and expected versions, then given its place and encoded.

use crate::error::{Error, Result};
use crate::event::{Appended, Event, Expected};
use crate::extension::{self, LONGEST_TAG, MAX_EXTENSION};
use crate::format::{self, FLAG_BATCH_END, FLAG_BATCH_START, MAX_PAYLOAD, Place};
use crate::medium::MediumFile;
use crate::segment;
use crate::span::Span;
use crate::state::State;

/// A large batch is written as it is encoded, in pieces that end at multiples of this many bytes of the file, so that the medium
/// works meanwhile, by whole pages and requests that follow upon one another. In tests they are small, so that crashes fall
/// between them.
const AHEAD: usize = if cfg!(test) { 256 } else { 128 << 10 };

/// What became of a batch before its commit.
pub(crate) enum Taken {
    /// It is encoded, or a duplicate.
    Appended(Appended),
    /// The segment has no room for its bytes; nothing was changed.
    NeedsRoom(u64),
}

impl State {
    /// Checks and encodes the batch.
    pub(crate) fn take(&mut self, events: &[Event<'_>], expected: Expected) -> Result<Taken> {
        self.refuse_if_poisoned()?;
        let bytes = self.bytes_of(events)?;
        if let Some(span) = self.check(events, expected)? {
            return Ok(Taken::Appended(span.appended(true)));
        }
        if self.offset + bytes > self.segment.header.events_end() {
            return Ok(Taken::NeedsRoom(bytes));
        }
        Ok(Taken::Appended(self.encode(events)?.appended(false)))
    }

    /// Bytes of the batch on the medium, if it is inside all limits.
    #[inline]
    pub(crate) fn bytes_of(&self, events: &[Event<'_>]) -> Result<u64> {
        let mut len = 0u64;
        for event in events {
            if event.payload.len() > MAX_PAYLOAD {
                return Err(Error::EventTooLarge {
                    len: event.payload.len() as u64,
                    max: MAX_PAYLOAD as u64,
                });
            }
            if !event.tags.is_empty() {
                refuse_large_tags(event)?;
            }
            len += format::encoded_len(event) as u64;
        }
        let max = self.spare_size().max(self.segment.header.size) - segment::OVERHEAD;
        if len > max {
            return Err(Error::BatchTooLarge { len, max });
        }
        Ok(len)
    }

    /// Whether the batch may be appended. `Some` is the earlier append of the same keys.
    pub(crate) fn check(&self, events: &[Event<'_>], expected: Expected) -> Result<Option<Span>> {
        let [first, rest @ ..] = events else {
            return Err(Error::EmptyBatch);
        };
        if events.iter().any(|event| event.idempotency_key != 0)
            && let Some(span) = self.duplicate(events)?
        {
            return Ok(Some(span));
        }
        match expected {
            Expected::Any => Ok(None),
            Expected::Exact(_) if rest.iter().any(|event| event.entity != first.entity) => {
                Err(Error::MixedEntities)
            }
            Expected::Exact(sequence) => self.must_be_at(first, sequence).map(|()| None),
            Expected::None => events
                .iter()
                .try_for_each(|event| self.must_be_at(event, 0))
                .map(|()| None),
        }
    }

    fn must_be_at(&self, event: &Event<'_>, expected: u64) -> Result<()> {
        let actual = self.index.sequence(event.entity.0)?;
        if actual == expected {
            return Ok(());
        }
        Err(Error::WrongSequence {
            entity: event.entity,
            expected,
            actual,
        })
    }

    #[inline(never)]
    fn duplicate(&self, events: &[Event<'_>]) -> Result<Option<Span>> {
        let mut keyed = 0;
        let mut known = 0;
        let mut span = None;
        for event in events.iter().filter(|event| event.idempotency_key != 0) {
            keyed += 1;
            if let Some(found) = self.index.span(event.entity.0, event.idempotency_key)? {
                known += 1;
                span.get_or_insert(found);
            }
        }
        if known != 0 && known != keyed {
            return Err(Error::PartialDuplicate {
                duplicates: known,
                events: events.len(),
            });
        }
        Ok(span)
    }

    /// Takes positions and sequences for the batch and encodes it: on a mapped journal into the segment, on a file
    /// at the end of `pending`.
    #[inline(always)]
    pub(crate) fn encode(&mut self, events: &[Event<'_>]) -> Result<Span> {
        let Some(mut entity) = events.first().map(|event| event.entity) else {
            return Err(Error::EmptyBatch);
        };
        // Nothing may fail once positions are taken: sequences of other entities are looked for before.
        if events.iter().any(|event| event.entity != entity) {
            for event in events {
                self.index.load(event.entity.0)?;
            }
        }
        let mut sequence = self.index.loaded(entity.0)?;
        self.timestamp = self.timestamp.max(self.clock.now());
        let first = self.next_position;
        let mut offset = self.offset;
        let mut place = Place {
            salt: self.salt,
            epoch: self.epoch,
            flags: FLAG_BATCH_START,
            position: first,
            // A group never spans segments, so the gap stays below the largest segment.
            durable_gap: (self.segment.header.log_position(offset) - self.durable) as u32,
            sequence: *sequence,
            timestamp: self.timestamp,
        };
        let mut keyed = false;
        let mut failed = None;
        for (n, event) in events.iter().enumerate() {
            if event.entity != entity {
                *sequence = place.sequence;
                entity = event.entity;
                sequence = self.index.sequence_mut(entity.0);
                place.sequence = *sequence;
            }
            place.sequence += 1;
            keyed |= event.idempotency_key != 0;
            if n + 1 == events.len() {
                place.flags |= FLAG_BATCH_END;
            }
            let mut record = format::encode(event, &place, &mut self.scratch);
            record.seal(place.salt);
            if self.in_place {
                if let Err(e) = self.segment.file.write_record(offset, &record) {
                    failed = Some(e);
                    break;
                }
            } else {
                record.append_to(&mut self.pending);
            }
            let len = record.padded_len();
            offset += len as u64;
            place.flags = 0;
            place.position += 1;
            place.durable_gap += len as u32;
            // One writes at a time: two could share a block.
            if self.pending.len() >= AHEAD
                && !self.group.is_syncing()
                && let Err(e) = write_ahead(&*self.segment.file, offset, &mut self.pending)
            {
                failed = Some(e);
                break;
            }
        }
        *sequence = place.sequence;
        self.offset = offset;
        self.next_position = place.position;
        if let Some(e) = failed {
            return Err(self.poison_by("a write", &e));
        }
        let span = Span {
            first,
            last: self.next_position - 1,
            sequence: place.sequence,
        };
        if keyed {
            self.remember_keys(events, span);
        }
        Ok(span)
    }

    #[inline(never)]
    fn remember_keys(&mut self, events: &[Event<'_>], span: Span) {
        for event in events.iter().filter(|event| event.idempotency_key != 0) {
            self.index.remember(event.entity.0, event.idempotency_key, span);
        }
    }
}

#[inline(never)]
fn refuse_large_tags(event: &Event<'_>) -> Result<()> {
    let extension = extension::len(event.tags, event.correlation);
    let longest = event.tags.iter().map(|tag| tag.len()).max().unwrap_or(0);
    if extension > MAX_EXTENSION || longest > LONGEST_TAG {
        return Err(Error::TagsTooLarge {
            len: extension.max(longest),
            max: MAX_EXTENSION,
        });
    }
    Ok(())
}

/// Writes the whole pieces of what is pending and ends at `end`. The commit that follows, whoever makes it, covers them; until
/// then they may be a batch without its end, which does not exist.
#[cold]
fn write_ahead(file: &dyn MediumFile, end: u64, pending: &mut Vec<u8>) -> std::io::Result<()> {
    let at = end - pending.len() as u64;
    let pieces_end = end / AHEAD as u64 * AHEAD as u64;
    let whole = pieces_end.saturating_sub(at) as usize;
    file.write_ahead(at, &pending[..whole])?;
    pending.drain(..whole);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{EntityId, Event, Expected, Journal, Mode, Options};

    #[test]
    fn a_clock_that_goes_backwards_does_not_take_the_events_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().require(Mode::Buffered).segment_size(8192);
        // A writer whose clock was a century ahead.
        let ahead = 100 * 365 * 86_400 * 1_000_000_000;
        for life in 0..3 {
            let (journal, _) = Journal::open_with(dir.path(), &options).unwrap();
            if life == 0 {
                journal.lock().timestamp = ahead;
            }
            // Over several segments, so that the next life learns it from a header as well.
            for _ in 0..20 {
                journal
                    .append(&[Event::new(EntityId(1), 1, &[7; 500])], Expected::Any)
                    .unwrap();
            }
        }
        let (journal, _) = Journal::open_with(dir.path(), &options).unwrap();
        let mut last = 0;
        for event in journal.replay(0).unwrap().owned() {
            let now = event.unwrap().timestamp;
            assert!(now >= last.max(ahead), "{now} after {last}");
            last = now;
        }
    }
}

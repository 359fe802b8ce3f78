//! Events in order, one segment after the other.

use crate::error::{Error, Result};
use crate::event::{EntityId, OwnedEvent, Recorded};
use crate::listing::Listing;
use crate::medium::file::FileMedium;
use crate::open_segment::OpenSegment;
use crate::reader::Reader;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::Footer;

/// Events in order. [`Replay::next_event`] lends each, of a sealed segment out of the file itself, of the last one from
/// a buffer: a million of them cost no allocation.
pub struct Replay {
    pub(crate) reader: Reader,
    medium: FileMedium,
    pub(crate) open: OpenSegment,
    scanner: Scanner,
    limit: u64,
    from: u64,
    /// The next event whose place the reader wants to know.
    wanted: u64,
    /// The end that was found unwritten and is being read a second time.
    doubted: Option<u64>,
}

impl Reader {
    /// All events kept, up to what is durable now.
    pub fn replay_kept(&self) -> Result<Replay> {
        self.replay_from(None, self.durable_limit()?)
    }

    /// Events at position `from` and after, up to what is durable now. If some of them were dropped the answer is
    /// [`Error::BelowFirst`].
    pub fn replay(&self, from: u64) -> Result<Replay> {
        self.replay_from(Some(from), self.durable_limit()?)
    }

    /// As above, up to a log position.
    pub(crate) fn replay_from(&self, from: Option<u64>, limit: u64) -> Result<Replay> {
        let medium = FileMedium::new(self.dir());
        let segments = Listing::read(&medium)?.segments;
        let asked = from;
        let from = from.unwrap_or(0);
        // The last segment that begins at or below `from`, and not past what is durable: by halving.
        let (mut low, mut high) = (0, segments.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let header = OpenSegment::open(&medium, segments[middle])?.header;
            if header.first_position <= from && header.base <= limit {
                low = middle;
            } else {
                high = middle;
            }
        }
        let Some(index) = segments.get(low) else {
            return Err(Error::NotAJournal {
                dir: self.dir().to_owned(),
            });
        };
        let open = OpenSegment::open(&medium, *index)?;
        let first = open.header.first_position;
        if from < first && asked.is_some() {
            return Err(Error::BelowFirst { asked: from, first });
        }
        let start = (from > first).then(|| self.start_below(&open, limit, from));
        let scanner = match start.flatten() {
            Some(offset) => Scanner::in_the_middle(&open.header, 0, offset),
            None => Scanner::new(&open.header, 0, Checks::ALL),
        };
        let mut replay = Replay {
            reader: self.clone(),
            medium,
            open,
            scanner,
            limit,
            from,
            wanted: u64::MAX,
            doubted: None,
        };
        replay.set_end()?;
        Ok(replay)
    }

    /// Offset of a record at or below `position` in the segment, where reading may begin. `None`: at the segment's beginning.
    fn start_below(&self, open: &OpenSegment, limit: u64, position: u64) -> Option<u64> {
        let index = open.header.index;
        match &open.footer {
            Some(footer) if open.is_whole_below(limit) => {
                let noted = self
                    .indexes()
                    .look(index, |at| match at.is_of(&open.header, footer) {
                        true => at.index.start_below(position),
                        false => Ok(None),
                    });
                // An index saves time. Without one the segment is read from its beginning.
                noted.ok().flatten()
            }
            _ => self.tail()?.start_below(index, position),
        }
    }
}

impl Replay {
    /// The next event, or `None` at the end of what was durable when this replay began or was last refreshed.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Recorded<'_>>> {
        Ok(if self.advance()? { self.last_event() } else { None })
    }

    /// Moves past the next event; false at the end.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            match self
                .scanner
                .step(&*self.open.file)
                .map_err(Error::io("read", &self.open.name))?
            {
                Step::Record => {
                    let header = self.scanner.header();
                    if header.is_control() {
                        continue;
                    }
                    let position = header.position;
                    if position >= self.wanted {
                        self.tell_place();
                    }
                    if position >= self.from {
                        return Ok(true);
                    }
                }
                Step::Invalid(cause) => self.doubt(cause)?,
                Step::End if self.scanner.offset < self.scanner.end => {
                    self.doubt("nothing is written where something was durable")?;
                }
                Step::End => {
                    if !self.next_segment()? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// The event moved past last.
    #[inline]
    pub(crate) fn last_event(&self) -> Option<Recorded<'_>> {
        self.scanner.last_event()
    }

    #[cold]
    fn tell_place(&mut self) {
        if let Some(tail) = self.reader.tail() {
            let (position, offset) = (self.scanner.header().position, self.scanner.last_offset());
            self.wanted = tail.note(&self.open.header, position, offset);
        }
    }

    /// Goes on at the event at `position`, or at the first after it, without reading all that is between. Back it does not go.
    pub fn skip_to(&mut self, position: u64) -> Result<()> {
        if position <= self.position() {
            return Ok(());
        }
        self.from = position;
        self.seek()?;
        self.scanner.read_little();
        Ok(())
    }

    /// Goes to the last place before the next wanted position that is known.
    fn seek(&mut self) -> Result<()> {
        let position = self.from;
        let elsewhere = self
            .open
            .footer
            .is_some_and(|footer| footer.next_position <= position);
        if elsewhere {
            *self = self.reader.replay_from(Some(position), self.limit)?;
        } else if let Some(offset) = self.reader.start_below(&self.open, self.limit, position)
            && offset > self.scanner.offset
        {
            self.scanner.jump(offset);
        }
        Ok(())
    }

    /// Bytes that should be durable are not what they should be: read once more past the page cache, which may be
    /// older than the medium where the writer goes around it.
    fn doubt(&mut self, cause: impl ToString) -> Result<()> {
        let offset = self.scanner.offset;
        if self.doubted == Some(offset) {
            return Err(self.open.corrupt(offset, cause));
        }
        self.doubted = Some(offset);
        self.open.file.forget_cached();
        self.scanner.extend(self.scanner.end);
        Ok(())
    }

    /// Looks again how far the journal is durable; true if there is more than before.
    pub fn refresh(&mut self) -> Result<bool> {
        let limit = self.reader.durable_limit()?;
        let more = limit > self.limit;
        self.limit = self.limit.max(limit);
        if more {
            self.set_end()?;
            // It may have been told to skip further than it knew of.
            if self.from > self.scanner.position {
                self.seek()?;
            }
        }
        Ok(more)
    }

    /// Log position up to which it reads.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Position of the next event this replay will give.
    pub fn position(&self) -> u64 {
        self.scanner.position.max(self.from)
    }

    /// The events as an iterator of owned copies; it ends after the first error.
    pub fn owned(self) -> impl Iterator<Item = Result<OwnedEvent>> {
        let mut replay = Some(self);
        std::iter::from_fn(move || {
            let next = replay
                .as_mut()?
                .next_event()
                .map(|event| event.map(|event| event.to_owned()));
            if next.is_err() {
                replay = None;
            }
            next.transpose()
        })
    }

    /// As [`Replay::owned`], of one entity. It reads every event: [`Reader::select`] reads only those wanted.
    pub fn of_entity(self, entity: EntityId) -> impl Iterator<Item = Result<OwnedEvent>> {
        self.owned()
            .filter(move |event| event.as_ref().map_or(true, |event| event.entity == entity))
    }

    /// As [`Replay::owned`], of those with this tag. It reads every event: [`Reader::select`] reads only those wanted.
    pub fn with_tag(self, tag: &str) -> impl Iterator<Item = Result<OwnedEvent>> {
        self.owned().filter(move |event| {
            event
                .as_ref()
                .map_or(true, |event| event.tags.iter().any(|t| t == tag))
        })
    }

    /// How far to read in this segment. What lies past the limit may be sealed by now, and end before it is full.
    fn set_end(&mut self) -> Result<()> {
        let header = &self.open.header;
        if self.open.footer.is_none() {
            self.open.footer =
                Footer::read(&*self.open.file, header).map_err(Error::io("read", &self.open.name))?;
        }
        let whole = self.open.is_whole_below(self.limit);
        let end = match self.open.footer {
            Some(footer) if whole => footer.end,
            footer => header
                .offset_of(self.limit.max(header.base))
                .min(footer.map_or(header.data_end(), |footer| footer.end)),
        };
        self.scanner.extend(end);
        self.wanted = match self.reader.tail() {
            Some(tail) if !whole => tail.wanted(&self.open.header),
            _ => u64::MAX,
        };
        if whole {
            self.scanner.read_in_place(&*self.open.file);
        }
        Ok(())
    }

    /// Goes on in the next segment, if this one is sealed and something beyond it is durable.
    fn next_segment(&mut self) -> Result<bool> {
        let header = self.open.header;
        let end = match self.open.footer {
            Some(footer) if footer.end == self.scanner.offset => footer.log_end,
            _ => header.log_position(self.scanner.offset),
        };
        if self.limit <= end {
            return Ok(false);
        }
        if self.open.footer.is_none() {
            self.set_end()?;
        }
        let Some(footer) = self.open.footer else {
            return Err(self
                .open
                .corrupt(header.data_end(), "the footer of a sealed segment is not valid"));
        };
        if footer.end > self.scanner.offset {
            return Ok(true);
        }
        let all = self.scanner.position == footer.next_position
            || (header.compacted && self.scanner.position < footer.next_position);
        if self.scanner.in_batch() || !all {
            return Err(self.open.corrupt(
                self.scanner.offset,
                "its events are not those the footer speaks of",
            ));
        }
        let next = match OpenSegment::open(&self.medium, header.index + 1) {
            Err(e) => return Err(self.reader.dropped(footer.next_position, e)),
            Ok(next) => next,
        };
        let follows = next.header.journal == header.journal
            && next.header.base == footer.log_end
            && next.header.first_position == footer.next_position;
        if !follows {
            return Err(next.corrupt(0, "it does not go on where the segment before ended"));
        }
        self.scanner.start_segment(&next.header);
        self.open = next;
        self.set_end()?;
        Ok(true)
    }
}

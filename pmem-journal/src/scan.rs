//! Reads records of one segment in order, through a buffer of its own, and stops at the first that is not valid.
//!
//! Memory is bounded by the largest record, whatever the bytes say. Valid means: decodes, is of the epoch in force,
//! carries the position that follows, opens and closes batches in turn, and its salted checksum is right.

use std::io;
use std::ops::Range;

use crate::event::Recorded;
use crate::format::{
    self, CONTROL_EPOCH, FLAG_BATCH_END, FLAG_BATCH_START, HEADER, Header, Invalid, JournalId, padded,
};
use crate::medium::read_map::ReadMap;
use crate::medium::{MediumFile, read_full};

const WINDOW: usize = 256 << 10;
/// For records that lie far apart.
const SMALL_WINDOW: usize = 4 << 10;

/// Which checks are made. All of them, except where a test shows what each is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks {
    pub(crate) checksum: bool,
    pub(crate) epoch: bool,
    pub(crate) position: bool,
    pub(crate) batch: bool,
    pub(crate) durable: bool,
}

impl Checks {
    pub(crate) const ALL: Checks = Checks {
        checksum: true,
        epoch: true,
        position: true,
        batch: true,
        durable: true,
    };
}

/// A window over a file's bytes: a copy of some of them, or of a sealed segment the file itself.
pub(crate) struct Window {
    buf: Vec<u8>,
    at: u64,
    len: usize,
    least: usize,
    mapped: Option<ReadMap>,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window {
            buf: Vec::new(),
            at: 0,
            len: 0,
            least: WINDOW,
            mapped: None,
        }
    }

    /// Forgets what was read, so that bytes written since are seen.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.mapped = None;
    }

    /// The index range in [`Window::bytes`] of `offset..offset + len`, or of less at the end of the file.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        file: &dyn MediumFile,
        offset: u64,
        len: usize,
        end: u64,
    ) -> io::Result<Range<usize>> {
        let len = (len as u64).min(end.saturating_sub(offset)) as usize;
        if offset < self.at || offset + len as u64 > self.at + self.len as u64 {
            self.read(file, offset, len, end)?;
        }
        let start = (offset - self.at) as usize;
        Ok(start..(start + len).min(self.len).max(start))
    }

    #[cold]
    fn read(&mut self, file: &dyn MediumFile, offset: u64, len: usize, end: u64) -> io::Result<()> {
        self.len = 0;
        if let Some(mapped) = &mut self.mapped {
            self.at = mapped.start();
            self.len = mapped.upto((offset + len as u64).min(end))?.len();
            return Ok(());
        }
        let want = (self.least.max(len) as u64).min(end.saturating_sub(offset)) as usize;
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        }
        self.at = offset;
        self.len = read_full(file, offset, &mut self.buf[..want])?;
        Ok(())
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.mapped {
            Some(mapped) => &mapped.bytes()[..self.len],
            None => &self.buf[..self.len],
        }
    }
}

/// What stands at the scanner's offset.
#[derive(Debug)]
pub(crate) enum Step {
    /// A valid record: [`Scanner::header`] and [`Scanner::record`] tell of it.
    Record,
    /// Nothing was written here, or the end of the room for records.
    End,
    /// Something that is not a valid record.
    Invalid(Invalid),
}

/// Reads records one after the other.
pub(crate) struct Scanner {
    window: Window,
    /// Offset of the next record.
    pub(crate) offset: u64,
    /// Records end here.
    pub(crate) end: u64,
    journal: JournalId,
    pub(crate) epoch: u32,
    salt: u32,
    /// Position the next event must carry.
    pub(crate) position: u64,
    in_batch: bool,
    /// The record that the last step moved past.
    last: Range<usize>,
    header: Header,
    /// The next record says which epoch and position are in force.
    anywhere: bool,
    /// Of a compacted segment: positions rise with gaps.
    gaps: bool,
    checks: Checks,
}

impl Scanner {
    pub(crate) fn new(segment: &crate::segment::Header, end: u64, checks: Checks) -> Scanner {
        Scanner {
            window: Window::new(),
            offset: crate::segment::DATA,
            end,
            journal: segment.journal,
            epoch: segment.epoch,
            salt: format::salt(&segment.journal, segment.epoch),
            position: segment.first_position,
            in_batch: false,
            last: 0..0,
            header: Header::NONE,
            anywhere: false,
            gaps: segment.compacted,
            checks,
        }
    }

    /// Begins at a record in the middle of a sealed segment, where an index says that one stands: epoch, position and
    /// whether a batch is open are taken from the record, and from then on checked as everywhere.
    pub(crate) fn in_the_middle(segment: &crate::segment::Header, end: u64, offset: u64) -> Scanner {
        Scanner {
            offset,
            anywhere: true,
            ..Scanner::new(segment, end, Checks::ALL)
        }
    }

    /// Reads little at once from now on, and nothing in place, for records that lie far apart.
    pub(crate) fn read_little(&mut self) {
        if self.window.mapped.is_some() {
            self.window.clear();
        }
        self.window.least = SMALL_WINDOW;
    }

    /// Goes on at another record, as [`Scanner::in_the_middle`] begins.
    pub(crate) fn jump(&mut self, offset: u64) {
        self.offset = offset;
        self.anywhere = true;
    }

    /// Reads the rest of a sealed segment in place, if the medium can map it for reading.
    pub(crate) fn read_in_place(&mut self, file: &dyn MediumFile) {
        self.window.clear();
        let mut mapped = file.map_for_reading();
        if let Some(mapped) = &mut mapped {
            mapped.begin_at(self.offset);
        }
        self.window.mapped = mapped;
    }

    /// The header of the record that the last step moved past.
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Where the record stands that the last step moved past.
    pub(crate) fn last_offset(&self) -> u64 {
        self.offset - padded(self.header.len) as u64
    }

    /// The record that the last step moved past, whole.
    pub(crate) fn record(&self) -> &[u8] {
        self.window.bytes().get(self.last.clone()).unwrap_or(&[])
    }

    /// The event that the last step moved past.
    #[inline(always)]
    pub(crate) fn last_event(&self) -> Option<Recorded<'_>> {
        let record = self.window.bytes().get(self.last.clone())?;
        (record.len() == self.header.len && !record.is_empty()).then(|| self.header.event(record))
    }

    /// Goes on in another segment, with the same buffer.
    pub(crate) fn start_segment(&mut self, segment: &crate::segment::Header) {
        let window = std::mem::replace(&mut self.window, Window::new());
        *self = Scanner {
            window,
            ..Scanner::new(segment, 0, self.checks)
        };
        self.window.clear();
    }

    /// Records end at `end` from now on; what was buffered beyond is read anew.
    pub(crate) fn extend(&mut self, end: u64) {
        self.end = end;
        self.window.clear();
    }

    pub(crate) fn in_batch(&self) -> bool {
        self.in_batch
    }

    /// The next record; moves past it only if it is valid.
    #[inline]
    pub(crate) fn step(&mut self, file: &dyn MediumFile) -> io::Result<Step> {
        if self.offset >= self.end {
            return Ok(Step::End);
        }
        let range = self.window.fill(file, self.offset, HEADER, self.end)?;
        let Ok(bytes) = <&[u8; HEADER]>::try_from(&self.window.bytes()[range]) else {
            return Ok(Step::End);
        };
        let header = match Header::decode(bytes, self.end - self.offset) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Step::End),
            Err(invalid) => return Ok(Step::Invalid(invalid)),
        };
        if self.anywhere {
            self.position = header.position;
            self.in_batch = !header.is_control() && header.flags & FLAG_BATCH_START == 0;
            if header.epoch != self.epoch {
                self.epoch = header.epoch;
                self.salt = format::salt(&self.journal, header.epoch);
            }
        }
        let opens = header.is_control() && header.kind == CONTROL_EPOCH && header.epoch > self.epoch;
        if header.epoch != self.epoch && !opens && self.checks.epoch {
            return Ok(Step::Invalid(Invalid::Epoch {
                found: header.epoch,
                current: self.epoch,
            }));
        }
        let follows = header.position == self.position || (self.gaps && header.position > self.position);
        if !follows && self.checks.position {
            return Ok(Step::Invalid(Invalid::Position {
                found: header.position,
                expected: self.position,
            }));
        }
        let starts = header.flags & FLAG_BATCH_START != 0;
        let misplaced = if header.is_control() {
            self.in_batch
        } else {
            starts == self.in_batch
        };
        if misplaced && self.checks.batch {
            return Ok(Step::Invalid(Invalid::Batch));
        }
        let range = self.window.fill(file, self.offset, header.len, self.end)?;
        if range.len() < header.len {
            return Ok(Step::Invalid(Invalid::Length(header.len as u32)));
        }
        let salt = if header.epoch == self.epoch {
            self.salt
        } else {
            format::salt(&self.journal, header.epoch)
        };
        if self.checks.checksum
            && let Err(invalid) = format::check(&self.window.bytes()[range.clone()], &header, salt)
        {
            return Ok(Step::Invalid(invalid));
        }
        if header.is_control() {
            if opens {
                self.epoch = header.epoch;
                self.salt = salt;
            }
        } else {
            self.position = header.position.saturating_add(1);
            self.in_batch = header.flags & FLAG_BATCH_END == 0;
        }
        self.anywhere = false;
        self.offset += padded(header.len) as u64;
        self.last = range;
        self.header = header;
        Ok(Step::Record)
    }
}

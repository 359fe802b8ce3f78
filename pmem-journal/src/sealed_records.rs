//! A sealed segment's file, and the records in it.

use crate::error::{Error, Result};
use crate::format::{FLAG_BATCH_END, Header as Record};
use crate::medium::{Medium, MediumFile};
use crate::open_segment::OpenSegment;
use crate::scan::{Checks, Scanner, Step};
use crate::segment::{self, Footer, Header};
use crate::span::Span;

/// A sealed segment: its file, and what its two ends say.
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) file: Box<dyn MediumFile>,
    pub(crate) header: Header,
    pub(crate) footer: Footer,
}

impl Sealed {
    /// Opens segment `index`; `None` if it is not sealed.
    pub(crate) fn open(medium: &dyn Medium, index: u64) -> Result<Option<Sealed>> {
        let OpenSegment {
            name,
            file,
            header,
            footer,
        } = OpenSegment::open(medium, index)?;
        Ok(footer.map(|footer| Sealed {
            name,
            file,
            header,
            footer,
        }))
    }

    /// Opens segment `index`, behind which there is another.
    pub(crate) fn open_followed(medium: &dyn Medium, index: u64) -> Result<Sealed> {
        Sealed::open(medium, index)?.ok_or_else(|| {
            let name = segment::name(index);
            Error::corruption(name, 0, "the footer of a sealed segment is not valid")
        })
    }

    pub(crate) fn corrupt(&self, offset: u64, cause: impl ToString) -> Error {
        Error::corruption(&self.name, offset, cause)
    }

    /// Calls `each` with every event's record, its offset and its bytes. Damage is corruption.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Record, u64, &[u8])) -> Result<()> {
        let mut scanner = Scanner::new(&self.header, self.footer.end, Checks::ALL);
        loop {
            let at = scanner.offset;
            match scanner.step(&*self.file).map_err(Error::io("read", &self.name))? {
                Step::Record => {
                    let record = scanner.header();
                    if !record.is_control() {
                        each(record, at, scanner.record());
                    }
                }
                Step::End if at == self.footer.end => return Ok(()),
                Step::End => return Err(self.corrupt(at, "nothing is written where something was durable")),
                Step::Invalid(cause) => return Err(self.corrupt(at, cause)),
            }
        }
    }

    /// The batch that begins at offset `batch`, if its event at offset `event` is of this entity and key.
    pub(crate) fn span(&self, batch: u64, event: u64, entity: u128, key: u128) -> Result<Option<Span>> {
        let mut scanner = Scanner::in_the_middle(&self.header, self.footer.end, batch);
        let mut found = false;
        let mut first = None;
        loop {
            let at = scanner.offset;
            match scanner.step(&*self.file).map_err(Error::io("read", &self.name))? {
                Step::Record => {
                    let record = scanner.header();
                    let record_key = record.key(scanner.record());
                    found |= at == event && record.entity == entity && record_key == key;
                    let first = *first.get_or_insert(record.position);
                    if record.flags & FLAG_BATCH_END != 0 {
                        return Ok(found.then_some(Span {
                            first,
                            last: record.position,
                            sequence: record.sequence,
                        }));
                    }
                }
                Step::End => return Err(self.corrupt(at, "a batch without its end")),
                Step::Invalid(cause) => return Err(self.corrupt(at, cause)),
            }
        }
    }
}

//! Reading a whole journal and checking all of it: every record of every segment, in order, and every sequence.
//!
//! Memory: 40 bytes or so for each entity.

use std::collections::HashMap;

use crate::error::Result;
use crate::floor::Floor;
use crate::format::{Header as Record, Invalid};
use crate::index::Seeded;
use crate::listing::Listing;
use crate::medium::Medium;
use crate::options::Progress;
use crate::recover::{Learner, Part, Recovered, does_not_follow, follows, scan_segment};
use crate::scan::Checks;
use crate::segment;

/// The last sequence of every entity so far.
#[derive(Default)]
struct Sequences {
    last: HashMap<u128, u64, Seeded>,
    batch: Vec<u128>,
    /// A compacted segment came by: sequences may rise with gaps.
    gaps: bool,
}

impl Learner for Sequences {
    fn learn(&mut self, header: &Record, _: &[u8]) -> std::result::Result<(), Invalid> {
        if header.flags & crate::format::FLAG_BATCH_START != 0 {
            self.batch.clear();
        }
        let last = self.last.entry(header.entity).or_insert(0);
        if header.sequence != *last + 1 && !(self.gaps && header.sequence > *last) {
            return Err(Invalid::Sequence {
                found: header.sequence,
                expected: *last + 1,
            });
        }
        *last = header.sequence;
        self.batch.push(header.entity);
        Ok(())
    }

    fn forget_batch(&mut self) {
        for entity in self.batch.drain(..) {
            if let Some(last) = self.last.get_mut(&entity) {
                *last -= 1;
            }
        }
    }
}

/// Reads the whole journal.
pub(crate) fn verify(medium: &dyn Medium, checks: Checks, progress: &dyn Fn(Progress)) -> Result<Recovered> {
    let Listing { floor, segments } = Listing::read(medium)?;
    let mut out = Recovered::nothing(segments.len());
    let mut sequences = Sequences::default();
    let floor = floor.map(|first| Floor::open(medium, first)).transpose()?;
    if let Some(floor) = &floor {
        sequences.gaps = floor.has_gaps();
        floor.for_each(|entity, sequence| {
            sequences.last.insert(entity, sequence);
        })?;
    }
    for (n, index) in segments.iter().enumerate() {
        let (name, file, header) = segment::open(medium, *index)?;
        follows(&out, &header, &name)?;
        if n == 0 {
            match &floor {
                Some(floor) => floor.check(&header)?,
                None if header.first_position != 0 || header.base != 0 => return Err(does_not_follow(&name)),
                None => {}
            }
            out.first = *index;
            out.report.first_position = header.first_position;
            out.report.next_position = header.first_position;
        }
        sequences.gaps |= header.compacted;
        let part = Part {
            file: &*file,
            name: &name,
            header,
            last: n + 1 == segments.len(),
        };
        scan_segment(&part, checks, &mut out, &mut sequences, progress)?;
    }
    out.report.events = out.report.next_position - out.report.first_position;
    Ok(out)
}

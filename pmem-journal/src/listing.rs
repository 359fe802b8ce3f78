//! Which segments a journal consists of, by the names in its directory.

use crate::error::{Error, Result};
use crate::floor;
use crate::medium::Medium;
use crate::segment;

/// The segments of a journal: an unbroken run of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Index of the first segment kept, if a floor says so. Otherwise the run starts at 0.
    pub(crate) floor: Option<u64>,
    pub(crate) segments: Vec<u64>,
}

impl Listing {
    /// Reads the directory. Segments below the highest floor are leftovers of a drop, and not listed.
    pub(crate) fn read(medium: &dyn Medium) -> Result<Listing> {
        // A floor gets its name before the segments below it go: one more look tells a drop from a loss.
        Listing::once(medium).or_else(|_| Listing::once(medium))
    }

    fn once(medium: &dyn Medium) -> Result<Listing> {
        let names = medium
            .list()
            .map_err(Error::io("list", "the journal's directory"))?;
        let floor = names.iter().filter_map(|name| floor::index_of(name)).max();
        let first = floor.unwrap_or(0);
        let mut segments: Vec<u64> = names
            .iter()
            .filter_map(|name| segment::index_of(name))
            .filter(|index| *index >= first)
            .collect();
        segments.sort_unstable();
        let missing = (first..).zip(&segments).find(|(wanted, found)| wanted != *found);
        let missing = match missing {
            Some((wanted, _)) => Some(wanted),
            None => floor.filter(|_| segments.is_empty()),
        };
        match missing {
            None => Ok(Listing { floor, segments }),
            Some(index) => {
                let name = segment::name(index);
                Err(Error::corruption(name, 0, "the segment is missing"))
            }
        }
    }
}

//! The indexes of all sealed segments: opened when they are needed, made again where they are missing or damaged.
//!
//! In memory: the filter of each index that was asked (ten bits for each entity, key and tag of its segment), and at
//! most [`OPEN`] open files' handles. Everything else is read page by page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::medium::in_memory::InMemory;
use crate::medium::{Access, Medium};
use crate::reserve::Reserve;
use crate::sealed_records::Sealed;
use crate::segment::{Footer, Header};
use crate::segment_index::{self, SegmentIndex};
use crate::table::TableError;
use crate::tail::Tail;

/// Indexes kept open at once.
const OPEN: usize = 32;

/// A sealed segment with its index.
pub(crate) struct Indexed {
    pub(crate) segment: Sealed,
    pub(crate) index: SegmentIndex,
}

impl Indexed {
    /// Whether its places are those of a segment that says this of itself: compaction makes another of it.
    pub(crate) fn is_of(&self, header: &Header, footer: &Footer) -> bool {
        self.segment.header == *header && self.segment.footer == *footer
    }
}

#[derive(Default)]
struct Cache {
    /// For each segment asked: its filter, to say no without a file.
    filters: BTreeMap<u64, Arc<crate::filter::Filter>>,
    /// The last used, newest at the back.
    open: VecDeque<(u64, Arc<Indexed>)>,
}

/// Indexes of one journal.
pub(crate) struct Indexes {
    medium: Arc<dyn Medium>,
    /// A writer keeps on the medium what it had to make, if there is room beside its reserve; a reader makes it for itself
    /// alone.
    keep: Option<Arc<Reserve>>,
    building: Mutex<()>,
    cache: Mutex<Cache>,
    tail: Tail,
}

impl Indexes {
    pub(crate) fn new(medium: Arc<dyn Medium>, keep: Option<Arc<Reserve>>) -> Indexes {
        Indexes {
            medium,
            keep,
            building: Mutex::new(()),
            cache: Mutex::default(),
            tail: Tail::default(),
        }
    }

    /// Of the segment behind those that have an index.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: nothing with this hash is in the segment.
    pub(crate) fn may_hold(&self, segment: u64, hash: u64) -> Result<bool> {
        if let Some(filter) = self.cache().filters.get(&segment) {
            return Ok(filter.may_hold(hash));
        }
        Ok(self.get(segment)?.index.filter().may_hold(hash))
    }

    /// What `look` finds in the index of the segment. A damaged index is made again and looked into once more.
    pub(crate) fn look<T>(
        &self,
        segment: u64,
        look: impl Fn(&Arc<Indexed>) -> std::result::Result<T, TableError>,
    ) -> Result<T> {
        match look(&self.get(segment)?) {
            Ok(found) => Ok(found),
            Err(TableError::Io(e)) => Err(Error::io("read", segment_index::name(segment))(e)),
            Err(TableError::Damaged { .. }) => {
                self.forget(segment);
                let again = self.build(segment)?;
                look(&again).map_err(|e| lost(segment, e))
            }
        }
    }

    /// Forgets what is known of a segment that was removed, replaced or moved.
    pub(crate) fn forget(&self, segment: u64) {
        let mut cache = self.cache();
        cache.filters.remove(&segment);
        cache.open.retain(|(index, _)| *index != segment);
    }

    /// Makes the index of the segment if there is no good one.
    pub(crate) fn ensure(&self, segment: u64) -> Result<()> {
        self.get(segment).map(drop)
    }

    /// The segment and its index, made if need be.
    pub(crate) fn get(&self, segment: u64) -> Result<Arc<Indexed>> {
        if let Some(found) = self.held(segment) {
            return Ok(found);
        }
        let sealed = self.sealed(segment)?;
        match self.open(sealed) {
            Ok(found) => Ok(self.hold(segment, found)),
            Err(_) => self.build(segment),
        }
    }

    fn held(&self, segment: u64) -> Option<Arc<Indexed>> {
        let mut cache = self.cache();
        let at = cache.open.iter().position(|(index, _)| *index == segment)?;
        let found = cache.open.remove(at)?;
        let indexed = Arc::clone(&found.1);
        cache.open.push_back(found);
        Some(indexed)
    }

    fn hold(&self, segment: u64, found: Indexed) -> Arc<Indexed> {
        let found = Arc::new(found);
        let mut cache = self.cache();
        cache.filters.insert(segment, Arc::clone(found.index.filter()));
        cache.open.push_back((segment, Arc::clone(&found)));
        if cache.open.len() > OPEN {
            cache.open.pop_front();
        }
        found
    }

    fn sealed(&self, segment: u64) -> Result<Sealed> {
        Sealed::open_followed(&*self.medium, segment)
    }

    fn open(&self, segment: Sealed) -> std::result::Result<Indexed, TableError> {
        let file = self
            .medium
            .open(&segment_index::name(segment.header.index), Access::Read)?;
        let index = SegmentIndex::open(file, &segment)?;
        Ok(Indexed { segment, index })
    }

    fn build(&self, segment: u64) -> Result<Arc<Indexed>> {
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made it meanwhile.
        if let Some(found) = self.held(segment) {
            return Ok(found);
        }
        let sealed = self.sealed(segment)?;
        let bytes = sealed.build_index()?;
        if let Some(reserve) = &self.keep {
            let _making = reserve.making();
            // Without space, or on a read-only file system, the index serves from memory.
            let _ = self.medium.store(&segment_index::name(segment), &bytes);
        }
        let index = SegmentIndex::open(Box::new(InMemory(bytes)), &sealed).map_err(|e| lost(segment, e))?;
        let built = Indexed {
            segment: sealed,
            index,
        };
        Ok(self.hold(segment, built))
    }
}

fn lost(segment: u64, e: TableError) -> Error {
    Error::io("make", segment_index::name(segment))(std::io::Error::other(e))
}

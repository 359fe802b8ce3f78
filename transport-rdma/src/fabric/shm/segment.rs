//! The memory of one direction of a session: a control block and three rings in a sealed memfd that both ends map.
//!
//! Its receiver allocates it. What both ends may scribble on is never believed: sizes come from the file that was
//! sealed against shrinking before it was mapped, so no access can fault, and cell values are checked by the rings.
//!
//! ```text
//! 0      acknowledged, control lane          one cell of CELL bytes each; the receiver stores, the sender loads. In each,
//! 128    acknowledged, ordinary lane         64 bytes further, the end of every frame that was consumed, which the sender
//! 256    acknowledged, large lane            looks at when the session is over
//! 512    whether the receiver sleeps         the receiver sets, the sender swaps off
//! 4096   the rings: control, ordinary, large
//! ```

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use transport::lane::{LANES, Lane, LaneSizes};
use transport::link::{LaneMemory, LinkError};
use transport::memory::RingMemory;
use transport::ring;

use crate::limits::CELL;

/// Bytes before the first ring.
const CONTROL: usize = 4096;
/// Where the sleeping flag stands.
const SLEEPING: usize = 512;
/// The size can never change again, in either direction.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

const _: () = assert!(ring::CELL <= CELL && LANES * CELL <= SLEEPING && SLEEPING + CELL <= CONTROL);

/// A mapped segment. Unmapped when the last ring in it is gone.
#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    file: OwnedFd,
    sizes: LaneSizes,
}

/// One direction's memory.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    mapping: Arc<Mapping>,
    memory: RingMemory,
}

/// Every segment that this process maps, so that a session's next link finds the control block of its rings.
static MAPPED: Mutex<Vec<Weak<Mapping>>> = Mutex::new(Vec::new());

fn mapped() -> MutexGuard<'static, Vec<Weak<Mapping>>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// A fresh, zeroed segment to receive in. Its pages are taken from the system when touched.
    pub(crate) fn create(sizes: &LaneSizes) -> Result<Segment, LinkError> {
        let file = memfd_create("transport-shm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(io::Error::from)?;
        let file = File::from(file);
        file.set_len(total(sizes) as u64)?;
        let file = OwnedFd::from(file);
        fcntl_add_seals(&file, SEALS).map_err(io::Error::from)?;
        Segment::map(file, sizes)
    }

    /// Maps what a peer sent, after checking that it is of the agreed size and can't change it any more.
    pub(crate) fn open(file: OwnedFd, sizes: &LaneSizes) -> Result<Segment, LinkError> {
        let protocol = |what: String| LinkError::Protocol(format!("the peer's shared memory {what}"));
        let seals = fcntl_get_seals(&file)
            .map_err(|error| protocol(format!("is not a memfd that can be sealed: {error}")))?;
        if !seals.contains(SEALS) {
            return Err(protocol(format!(
                "is not sealed against shrinking and growing (seals {:#x}, needed {:#x})",
                seals.bits(),
                SEALS.bits()
            )));
        }
        let size = fstat(&file).map_err(io::Error::from)?.st_size;
        if size != total(sizes) as i64 {
            return Err(protocol(format!(
                "has {size} bytes, agreed were {}",
                total(sizes)
            )));
        }
        Segment::map(file, sizes).map_err(|error| protocol(format!("can't be mapped: {error}")))
    }

    fn map(file: OwnedFd, sizes: &LaneSizes) -> Result<Segment, LinkError> {
        let map = MmapOptions::new()
            .len(total(sizes))
            .map_raw(&File::from(file.try_clone()?))?;
        let mapping = Arc::new(Mapping {
            map,
            file,
            sizes: *sizes,
        });
        let segment = Segment::over(mapping.clone())
            .ok_or_else(|| io::Error::other("mmap returned an address that can't be used"))?;
        let mut mapped = mapped();
        mapped.retain(|mapping| mapping.strong_count() > 0);
        mapped.push(Arc::downgrade(&mapping));
        Ok(segment)
    }

    fn over(mapping: Arc<Mapping>) -> Option<Segment> {
        let base = NonNull::new(mapping.map.as_mut_ptr())?;
        // SAFETY: the mapping is that long, readable and writable, page-aligned, and lives as long as the owner
        // handed over here; the file behind it can't shrink (sealed before it was mapped), so every page of it stays
        // accessible. Nothing else in this crate makes references into it.
        let memory = unsafe { RingMemory::from_raw(base, mapping.map.len(), mapping.clone()) };
        Some(Segment { mapping, memory })
    }

    /// The segment whose rings these are, if they lie in one.
    pub(crate) fn of(rings: &LaneMemory) -> Option<Segment> {
        let first = rings[Lane::Control.index()].as_ptr();
        mapped().iter().filter_map(Weak::upgrade).find_map(|mapping| {
            let is_it = first == mapping.map.as_mut_ptr().wrapping_add(CONTROL);
            is_it.then(|| Segment::over(mapping)).flatten()
        })
    }

    /// The rings, by lane.
    pub(crate) fn rings(&self) -> LaneMemory {
        let mut offset = CONTROL;
        Lane::ALL.map(|lane| {
            let len = self.mapping.sizes.of(lane) as usize;
            let ring = self.memory.slice(offset, len);
            offset += len;
            ring
        })
    }

    /// The cells in which the receiver publishes what it has consumed, by lane.
    pub(crate) fn cells(&self) -> LaneMemory {
        Lane::ALL.map(|lane| self.memory.slice(lane.index() * CELL, CELL))
    }

    /// The flag that says whether the receiver sleeps.
    pub(crate) fn sleeping(&self) -> RingMemory {
        self.memory.slice(SLEEPING, CELL)
    }

    /// The capacities of its rings.
    pub(crate) fn sizes(&self) -> &LaneSizes {
        &self.mapping.sizes
    }

    /// The memfd, to hand to the peer.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.mapping.file.as_fd()
    }

    /// Whether a file is the one behind this segment.
    pub(crate) fn is_behind(&self, file: BorrowedFd<'_>) -> bool {
        match (fstat(self.file()), fstat(file)) {
            (Ok(ours), Ok(other)) => ours.st_dev == other.st_dev && ours.st_ino == other.st_ino,
            _ => false,
        }
    }
}

/// Bytes of a segment with these rings.
fn total(sizes: &LaneSizes) -> usize {
    CONTROL + sizes.total()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const SIZES: LaneSizes = LaneSizes {
        control: 4096,
        ordinary: 8192,
        large: 16384,
    };

    #[test]
    fn what_one_mapping_stores_the_other_one_loads_at_the_same_place() {
        let ours = Segment::create(&SIZES).unwrap();
        let file = ours.file().try_clone_to_owned().unwrap();
        let theirs = Segment::open(file, &SIZES).unwrap();
        for (lane, (here, there)) in ours.rings().iter().zip(theirs.rings()).enumerate() {
            assert_eq!(here.len(), SIZES.of(Lane::ALL[lane]) as usize);
            assert_ne!(here.as_ptr(), there.as_ptr());
            here.word(8).store(lane as u64 + 1, Ordering::Relaxed);
            assert_eq!(there.word(8).load(Ordering::Relaxed), lane as u64 + 1);
        }
        assert!(Segment::of(&ours.rings()).unwrap().is_behind(theirs.file()));
    }

    #[test]
    fn memory_that_could_shrink_under_us_is_refused() {
        let file = memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let file = File::from(file);
        file.set_len(total(&SIZES) as u64).unwrap();
        let refused = Segment::open(file.into(), &SIZES);
        assert!(matches!(refused, Err(LinkError::Protocol(why)) if why.contains("not sealed")));
    }

    #[test]
    fn memory_of_another_size_than_agreed_is_refused() {
        let ours = Segment::create(&SIZES).unwrap();
        let file = ours.file().try_clone_to_owned().unwrap();
        let refused = Segment::open(file, &LaneSizes::default());
        assert!(matches!(refused, Err(LinkError::Protocol(why)) if why.contains("bytes, agreed")));
    }

    #[test]
    fn a_descriptor_that_is_no_memory_is_refused() {
        let null = File::open("/dev/null").unwrap();
        assert!(matches!(
            Segment::open(null.into(), &SIZES),
            Err(LinkError::Protocol(_))
        ));
    }

    #[test]
    fn sealed_memory_can_not_be_made_smaller_by_anybody() {
        let ours = Segment::create(&SIZES).unwrap();
        let file = File::from(ours.file().try_clone_to_owned().unwrap());
        assert!(file.set_len(4096).is_err());
    }

    #[test]
    fn rings_that_lie_in_no_segment_are_not_found() {
        let anonymous = transport::link::anonymous_lanes(&SIZES).unwrap();
        assert!(Segment::of(&anonymous).is_none());
    }
}

//! Memory that the device may read or write.

#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit};
use sideway::ibverbs::AccessFlags;
use sideway::ibverbs::memory_region::{
    MemoryRegion, RegisterMemoryRegionError, RegisterMemoryRegionErrorKind,
};
use sideway::ibverbs::protection_domain::ProtectionDomain;
use transport::link::LinkError;
use transport::memory::{Pages, RingMemory};

use crate::rdma::offer::RemoteRegion;

/// What the peer may do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: this side's writes start here.
    Local,
    /// Write.
    RemoteWrite,
}

/// A registered region and the memory behind it, which outlives the registration.
pub(super) struct Region {
    registered: Arc<MemoryRegion>,
    memory: RingMemory,
}

impl Region {
    pub(super) fn register(
        domain: &Arc<ProtectionDomain>,
        memory: &RingMemory,
        access: Access,
    ) -> Result<Region, LinkError> {
        keep_from_children(memory);
        let flags = match access {
            Access::Local => AccessFlags::LocalWrite,
            Access::RemoteWrite => AccessFlags::LocalWrite | AccessFlags::RemoteWrite,
        };
        // SAFETY: the memory is valid for its length for as long as the handle kept beside the registration lives,
        // and fields are dropped in order, the registration first.
        let registered = unsafe { domain.reg_mr(memory.as_ptr() as usize, memory.len(), flags) };
        Ok(Region {
            registered: registered.map_err(|error| why_not(error, memory.len()))?,
            memory: memory.clone(),
        })
    }

    pub(super) fn local_key(&self) -> u32 {
        self.registered.lkey()
    }

    pub(super) fn memory(&self) -> &RingMemory {
        &self.memory
    }

    /// What the peer needs to write here.
    pub(super) fn remote(&self) -> RemoteRegion {
        RemoteRegion {
            address: self.memory.as_ptr() as u64,
            key: self.registered.rkey(),
            len: self.memory.len() as u32,
        }
    }

    /// Bytes to be sent from here at once.
    ///
    /// # Panics
    /// When they are not inside the region.
    #[inline]
    pub(super) fn committed(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.memory.len() && len <= self.memory.len() - offset);
        // SAFETY: inside the memory, as just checked. The link passes only what the send ring calls committed, which
        // nobody writes until the peer has acknowledged it, and it was not even sent yet.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(offset), len) }
    }
}

/// A child that a fork leaves with copies of registered pages would make the device write into pages that this
/// process no longer sees; so children do not get them. Huge pages are kept from them as they are mapped.
fn keep_from_children(memory: &RingMemory) {
    if memory.pages() == Pages::Huge {
        return;
    }
    // SAFETY: the pages belong to this ring memory; advice about children changes nothing for this process. Memory
    // that does not start on a page is refused by the kernel and stays as it was.
    let advised = unsafe { madvise(memory.as_ptr().cast(), memory.len(), Advice::LinuxDontFork) };
    if let Err(error) = advised {
        tracing::debug!(%error, "ring memory stays visible to forked children");
    }
}

fn why_not(error: RegisterMemoryRegionError, len: usize) -> LinkError {
    let RegisterMemoryRegionErrorKind::Ibverbs(error) = error.0 else {
        return LinkError::Device(format!("{} KiB can't be registered: {error}", len / 1024));
    };
    if error.raw_os_error() == Some(rustix::io::Errno::NOMEM.raw_os_error()) {
        let limit = match getrlimit(Resource::Memlock).current {
            Some(bytes) => format!("{} KiB", bytes / 1024),
            None => "unlimited".into(),
        };
        return LinkError::Device(format!(
            "{} KiB can't be registered: the limit of locked memory is {limit} in all. Raise it: `ulimit -l unlimited`, \
             or LimitMEMLOCK=infinity in the service, or choose smaller rings",
            len / 1024
        ));
    }
    LinkError::Device(format!(
        "{} KiB can't be registered: {}",
        len / 1024,
        io::Error::to_string(&error)
    ))
}

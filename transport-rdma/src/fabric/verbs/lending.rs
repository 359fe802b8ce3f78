//! Memory beside the rings that the device may read: what messages are sent from without a copy. Each is registered when it is
//! first sent from and stays registered, since buffers come back; the one that was idle longest makes room for another.

use std::sync::Arc;

use sideway::ibverbs::protection_domain::ProtectionDomain;
use transport::memory::RingMemory;

use super::region::{Access, Region};
use crate::limits::verbs::{LENT_BYTES, LENT_REGIONS};

/// What is registered.
pub(super) struct Lending {
    domain: Arc<ProtectionDomain>,
    regions: Vec<Option<Known>>,
    bytes: usize,
    /// The device has refused a registration: it is not asked again.
    refused: bool,
}

struct Known {
    region: Region,
    /// The last work request that reads here; [`PROMISED`] while one is still to be posted.
    last: u64,
}

const PROMISED: u64 = u64::MAX;

impl Lending {
    pub(super) fn new(domain: Arc<ProtectionDomain>) -> Lending {
        Lending {
            domain,
            regions: Vec::new(),
            bytes: 0,
            refused: false,
        }
    }

    /// The number of this memory, which stays its own until a work request that reads it has been posted and has completed;
    /// `completed` is the latest that has. `None` when there is no room, or the device does not take it.
    pub(super) fn lend(&mut self, memory: &RingMemory, completed: u64) -> Option<usize> {
        let known = |known: &Option<Known>| {
            known
                .as_ref()
                .is_some_and(|known| known.region.memory().as_ptr() == memory.as_ptr())
        };
        if let Some(number) = self.regions.iter().position(known) {
            self.used(number, PROMISED);
            return Some(number);
        }
        if self.refused || memory.len() > LENT_BYTES {
            return None;
        }
        let mut number = self.regions.iter().position(Option::is_none);
        while self.bytes + memory.len() > LENT_BYTES || number.is_none() && self.regions.len() == LENT_REGIONS
        {
            number = Some(self.give_up_one(completed)?);
        }
        match Region::register(&self.domain, memory, Access::Local) {
            Ok(region) => {
                self.bytes += memory.len();
                let known = Some(Known {
                    region,
                    last: PROMISED,
                });
                match number {
                    Some(number) => self.regions[number] = known,
                    None => self.regions.push(known),
                }
                Some(number.unwrap_or(self.regions.len() - 1))
            }
            Err(error) => {
                tracing::debug!(%error, "messages are copied into the ring");
                self.refused = true;
                None
            }
        }
    }

    /// Lets go of what no work request reads any more, and was not read for longest. Returns its number.
    fn give_up_one(&mut self, completed: u64) -> Option<usize> {
        let idle = self.regions.iter().enumerate().filter_map(|(number, known)| {
            let last = known.as_ref()?.last;
            (last <= completed).then_some((last, number))
        });
        let (_, number) = idle.min()?;
        if let Some(known) = self.regions[number].take() {
            self.bytes -= known.region.memory().len();
        }
        Some(number)
    }

    /// Memory of this number is read by this work request.
    pub(super) fn used(&mut self, number: usize, by: u64) {
        if let Some(Some(known)) = self.regions.get_mut(number) {
            known.last = by;
        }
    }

    /// The region of this number.
    pub(super) fn region(&self, number: usize) -> Option<&Region> {
        self.regions.get(number)?.as_ref().map(|known| &known.region)
    }
}

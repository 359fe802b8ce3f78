//! The other process of a bench, and what it can be told to be.

#[cfg(feature = "clusters")]
use crate::clusters;
use crate::error::Error;
use crate::floor::{shm, tcp};
use crate::ours;
use crate::two_process::{self, Kind};

pub(super) fn far_half() -> Result<(), Error> {
    two_process::serve(&[
        Kind::of::<tcp::Role>(),
        Kind::of::<shm::Role>(),
        Kind::of::<ours::Setup>(),
        #[cfg(feature = "clusters")]
        Kind::of::<clusters::End>(),
    ])
}

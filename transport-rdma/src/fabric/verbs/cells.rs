//! The page of cells that the peer writes to: its acknowledgements by lane, then its wish to be woken.

use transport::lane::{LANES, Lane};

use crate::limits::CELL;

/// Bytes of the page.
pub(crate) const PAGE: usize = 4096;
/// Where the wish stands (see [`super::notify`]).
pub(super) const WISH: usize = LANES * CELL;

const _: () = assert!(WISH + CELL <= PAGE);

/// Where the acknowledgement of a lane stands.
pub(super) const fn acknowledgement(lane: Lane) -> usize {
    lane.index() * CELL
}

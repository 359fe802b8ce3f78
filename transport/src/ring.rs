//! The mirrored ring: a sender's ring of bytes, and its peer's ring of the same size.
//!
//! A [`Position`] counts bytes since the session began and never wraps; the offset in the ring is
//! `position & (capacity - 1)`. Credit, acknowledgement, resumption and duplicate checks are all positions.
//! See `docs/PROTOCOL.md`, "Rings".
//!
//! Between the position up to which the peer has consumed and the position up to which producers have claimed lie
//! the frames in flight; every other byte of a send ring is zero. A frame becomes visible when its first word
//! turns from zero to something else, which is the last thing a producer does.

mod claim;
mod lent;
mod receive;
mod send;
mod shared;
mod write;

pub use claim::{Claim, ClaimError};
pub use lent::Gathered;
pub use receive::{Arrival, Frame, ReceiveRing};
pub use send::{CreditError, Piece, SendRing};
pub use shared::{ACKNOWLEDGED, CELL, CONSUMED};

/// A count of bytes since the session began. Never wraps: at 100 GB/s a u64 lasts five years.
pub type Position = u64;

/// The least capacity of a ring, in bytes. Models run on smaller ones, so that they come around.
pub const MIN_CAPACITY: u64 = if cfg!(loom) { 64 } else { 4096 };

/// Bytes of a cache line, on most machines.
const CACHE_LINE: usize = 64;

/// The longest frame of a ring, header included: a quarter of the ring, so that a frame, the padding before it and
/// a quarter of credit not yet returned always fit.
pub const fn max_frame(capacity: usize) -> usize {
    capacity / 4
}

#[cfg(test)]
mod tests;

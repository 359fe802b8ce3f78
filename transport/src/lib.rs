//! What every link of the cluster transport shares: mirrored rings, frames, sessions, nodes and mailboxes.
//!
//! Nothing in this crate opens a socket or a device: that is what a [`link::Transport`] is for.

pub mod frame;
pub mod lane;
pub mod link;
pub mod memory;
pub mod ring;

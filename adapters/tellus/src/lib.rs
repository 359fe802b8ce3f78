#![doc = include_str!("../README.md")]

mod connection;
mod frames;
mod incoming;
mod session;
mod store;
mod transport;

pub use connection::RingConnection;
pub use frames::{RingFrameReceiver, RingFrameSender};
pub use store::{JournalStore, StoreError};
pub use transport::{DATA_STREAMS, RingTransport};

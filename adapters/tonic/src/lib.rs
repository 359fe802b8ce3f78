#![doc = include_str!("../README.md")]

mod connector;
mod headers;
mod incoming;
mod io;

pub use connector::RingConnector;
pub use incoming::{RingIncoming, incoming};
pub use io::{RingConnectInfo, RingIo};

/// The name of the streams that carry connections.
const STREAMS: &str = "http";

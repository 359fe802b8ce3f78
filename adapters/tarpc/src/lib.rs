#![doc = include_str!("../README.md")]

mod connecting;
mod listening;

pub use connecting::{connect, connect_with};
pub use listening::{Incoming, listen};

/// What carries requests one way and responses the other: a transport of tarpc over a stream of a session.
pub type RingTransport<Item, SinkItem, Codec> =
    tarpc::serde_transport::Transport<transport::stream::Stream, Item, SinkItem, Codec>;

/// The name of the streams that carry connections.
const STREAMS: &str = "tarpc";

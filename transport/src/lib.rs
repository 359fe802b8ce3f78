//! What every link of the cluster transport shares: mirrored rings, frames, sessions, nodes and mailboxes.
//!
//! Nothing in this crate opens a socket or a device: that is what a [`link::Transport`] is for.
// What can fail is a part of what an operation is: each says it.
#![warn(clippy::missing_errors_doc)]
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

pub mod address;
mod answer;
pub mod ask;
mod assembly;
mod breakage;
pub mod buffer;
mod candidates;
pub mod checksum;
mod chunk;
mod clock;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connect;
pub mod control;
mod conversation;
pub mod dead_letter;
mod dispatch;
pub mod doze;
mod drive;
pub mod event;
pub mod frame;
pub mod handshake;
pub mod host;
pub mod lane;
mod large;
pub mod latency;
pub mod link;
pub mod mailbox;
pub mod memory;
#[cfg(all(test, loom))]
mod models;
pub mod node;
pub mod observe;
#[cfg(feature = "tokio")]
mod on_tokio;
pub mod peer;
pub mod permit;
mod place;
pub mod protocol;
mod questions;
#[cfg(any(test, feature = "sim", feature = "conformance"))]
mod random;
pub mod reference;
mod refusals;
pub mod ring;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(any(feature = "tokio", all(test, loom)))]
mod standing;
pub mod stream;
mod surroundings;
mod sync;
pub mod trace;
pub mod typed;
pub mod wait;
pub mod watch;

pub use address::{Address, SendBatch, SendError, Unsent};
pub use ask::Asker;
pub use buffer::Buffer;
pub use connect::ConnectError;
pub use dead_letter::{DeadLetter, DeadLetters, Reason};
pub use event::Event;
pub use lane::LaneSizes;
pub use mailbox::{Mailbox, MailboxClosed, MailboxOptions, Message, Overflow};
pub use node::{Drive, Node, NodeBuilder, NodeError};
pub use peer::{Peer, ResolveError};
pub use permit::Permit;
pub use questions::AskError;
pub use reference::{Reference, ReferenceError};
pub use session::{Ended, Timing};
pub use trace::TraceContext;
pub use wait::Wait;
pub use watch::{Gone, Watch};

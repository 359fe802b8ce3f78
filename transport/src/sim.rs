//! A simulator of nodes, links and faults: deterministic, seeded, in simulated time, on one thread. It runs this crate's own
//! nodes, sessions, rings, handshakes and mailboxes; only the network, the clock and the random numbers are made.
//!
//! # The fault model
//!
//! What may happen, by itself or together, at any step of a history while its faults last (`Faults` draws which of them a
//! history has; each is drawn by itself, so that some histories have one and some have all):
//!
//! | what | how |
//! | --- | --- |
//! | a connection dies | after any number of bytes, so at any byte of any message or ring, handshakes included; also at any time. Both ends are told, or one, or none; of what was under way any part is lost |
//! | a connection is slow | every message, span and write takes its own time; spans arrive in pieces, cut at any byte; the sender finds no room |
//! | bytes of a one-sided write land late, in part and in any order | pieces of 1 to 64 bytes, each in its own time, whatever was written before or after; acknowledgements overtake each other; a notice of the large lane's arrival comes after what it tells of, or never. What was under way when the connection died may land long after, when the session has gone on over another link. Not: two writes to the same place in the wrong order |
//! | a link carries nothing | although its handshake succeeded |
//! | a transport is out | for a time nobody can dial over it, and its connections die |
//! | somebody stands between two nodes | a proxy, say: where its target is out or gone, it refuses whoever dials, or says nothing. A host itself refuses only where nobody listens |
//! | two nodes are cut off | for a time nothing passes between them; afterwards what was under way goes on |
//! | a node stands still | for a time, up to longer than the resume window |
//! | a node crashes | its peers are told or not; it comes back later as another incarnation at the same addresses |
//! | an actor is slow | its mailbox fills up; or it panics; or it closes its mailbox and opens another of the name |
//! | a session is closed | in good order, by either side, also amid faults |
//!
//! Not in the model: threads that race within a node (that is what the `loom` models are for), memory or disks that
//! fail, and a peer that breaks the protocol on purpose.
//!
//! # What is checked
//!
//! In every history: each message is delivered at most once, as it was sent, and in order within its session and mailbox;
//! each that was sent by a node that lives is delivered or a dead letter, and both only where the dead letter says that it
//! may be; no session ends because its peer was gone whose peer lives; no mailbox holds more than it may; without faults no link is given up; and once faults stop, all nodes are
//! connected and deliver again within a bounded time.
//!
//! [`run`] runs one history; the same seed makes the same history, to the last byte.

mod actors;
mod books;
mod connection;
mod faults;
mod history;
mod host;
mod links;
mod surroundings;
mod world;

pub use crate::breakage::{Breakage, while_broken};
pub use history::{Failure, Outcome, run, run_traced};

/// What an end of a connection has to know of the moment.
struct Moment {
    now: crate::session::Time,
    /// Nothing passes between the two hosts.
    cut_off: bool,
    /// How often a sender finds no room.
    blocked: u64,
}

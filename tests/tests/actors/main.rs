//! What mailboxes promise, between two processes over each transport: every overflow policy, every reason of a dead letter,
//! the order of what a watcher sees, every way in which an answer comes or fails to, and addresses.
//!
//! The far process is this program again; see `far`.

mod addresses;
mod asking;
mod far;
mod letters;
mod policies;
mod watching;

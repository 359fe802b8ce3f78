//! The real job: event-sourced accounts behind a mailbox, a client with its own idea of the books, and an audit
//! of the journal against it.
//!
//! Nothing here knows how commands travel or where events are kept: the host decides and applies, the client
//! issues and checks, the audit compares.
#![cfg_attr(not(test), expect(dead_code, reason = "no nodes drive the job yet"))]

mod audit;
mod client;
mod host;
mod wire;

#[expect(unused_imports, reason = "no nodes drive the job yet")]
pub(crate) use {
    audit::{Imbalance, audit},
    client::Client,
    host::{Decision, Host},
};

/// Money in its smallest unit.
pub(crate) type Amount = u64;

/// What a client asks for. The key is its own for ever: the same key is the same command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) key: u64,
    pub(crate) account: u32,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Deposit(Amount),
    Withdraw(Amount),
}

impl Action {
    /// The balance after it, or nothing where there is too little (or would be too much).
    pub(crate) fn on(self, balance: Amount) -> Option<Amount> {
        match self {
            Action::Deposit(amount) => balance.checked_add(amount),
            Action::Withdraw(amount) => balance.checked_sub(amount),
        }
    }
}

/// What has happened: a command that was carried out. This is what the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) command: Command,
    /// After the command.
    pub(crate) balance: Amount,
}

/// What a client is told, and only after the event is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done { balance: Amount },
    Refused { balance: Amount },
}

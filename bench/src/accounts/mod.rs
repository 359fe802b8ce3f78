//! The real job: event-sourced accounts behind a mailbox, a client with its own idea of the books, and an audit
//! of the journal against it.
//!
//! Host, client and audit know neither how commands travel nor where events are kept: the host decides and applies,
//! the client issues and checks, the audit compares. Around them are the process that has the accounts (`service`), and
//! the run that starts it, kills it and compares the books.

mod audit;
mod client;
mod host;
mod process;
mod recorded;
mod run;
mod service;
mod wire;

pub(crate) use audit::{Imbalance, audit};
pub(crate) use client::{Client, WrongAnswer};
pub(crate) use host::{Decision, Host};
pub(crate) use run::{COMMAND_BYTES, Job, MESSAGE_BYTES, run};
pub(crate) use service::serve;

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

/// What has happened: a command was carried out, or refused. This is what the journal holds.
///
/// Refusals too: a client whose answer was lost asks again, and by then there may be enough in the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) command: Command,
    pub(crate) outcome: Outcome,
}

/// What a client is told, and only after the event is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done { balance: Amount },
    Refused { balance: Amount },
}

impl Outcome {
    /// What the account holds after it.
    pub(crate) fn balance(self) -> Amount {
        match self {
            Outcome::Done { balance } | Outcome::Refused { balance } => balance,
        }
    }
}

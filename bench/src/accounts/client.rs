//! The client: issues commands, keeps its own books, and checks every answer against them.
//!
//! Commands to one account are carried out in the order in which they are issued, also those that are sent again
//! after a crash, so what each answer must be is known the moment its command is issued.

use std::collections::{BTreeMap, HashMap};

use super::{Action, Amount, Command, Host, Outcome};
use crate::accounts::Decision;

/// Of this many commands one asks for more than any account holds.
const IMPOSSIBLE: u64 = 16;
const LARGEST_AMOUNT: Amount = 1_000;

/// A client with the commands that it has issued.
#[derive(Debug)]
pub(crate) struct Client {
    accounts: u32,
    random: u64,
    next_key: u64,
    /// What the accounts hold if every issued command is carried out once, in order.
    books: Host,
    expected: HashMap<u64, Outcome>,
    /// Issued and not yet answered, in order.
    open: BTreeMap<u64, Command>,
}

impl Client {
    /// The same seed issues the same commands.
    pub(crate) fn new(accounts: u32, seed: u64) -> Client {
        Client {
            accounts,
            random: seed,
            next_key: 1,
            books: Host::default(),
            expected: HashMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// The next command, to be sent.
    pub(crate) fn issue(&mut self) -> Command {
        let account = (self.random() % u64::from(self.accounts)) as u32;
        let amount = self.random() % LARGEST_AMOUNT + 1;
        let action = match self.random() % IMPOSSIBLE {
            0 => Action::Withdraw(Amount::MAX),
            n if n % 2 == 0 => Action::Withdraw(amount),
            _ => Action::Deposit(amount),
        };
        let command = Command {
            key: self.next_key,
            account,
            action,
        };
        self.next_key += 1;
        let outcome = match self.books.decide(command) {
            Decision::Append(event) => {
                self.books.apply(&event);
                event.outcome
            }
            Decision::Answer(outcome) => outcome,
        };
        self.expected.insert(command.key, outcome);
        self.open.insert(command.key, command);
        command
    }

    /// The commands to be sent again after the accounts' node came back, in order.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Command> {
        self.open.values()
    }

    /// Takes an answer. A second one to the same command is checked like the first.
    ///
    /// # Errors
    /// What it should have been, where it is not what the client's books say.
    pub(crate) fn answered(&mut self, key: u64, outcome: Outcome) -> Result<(), WrongAnswer> {
        self.open.remove(&key);
        match self.expected.get(&key) {
            Some(expected) if *expected == outcome => Ok(()),
            expected => Err(WrongAnswer {
                key,
                outcome,
                expected: expected.copied(),
            }),
        }
    }

    /// Whether a command with this key was issued.
    pub(crate) fn has_issued(&self, key: u64) -> bool {
        self.expected.contains_key(&key)
    }

    /// Every command that was answered, with its outcome.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = (u64, Outcome)> {
        self.expected
            .iter()
            .filter(|(key, _)| !self.open.contains_key(key))
            .map(|(key, outcome)| (*key, *outcome))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The accounts' node said something else than the client's own books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("command {key} was answered with {outcome:?}, but the client's books say {expected:?}")]
pub(crate) struct WrongAnswer {
    key: u64,
    outcome: Outcome,
    /// Nothing where no such command was issued.
    expected: Option<Outcome>,
}

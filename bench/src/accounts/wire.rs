//! Commands, events and outcomes as bytes, little-endian and of fixed length.
//!
//! ```text
//! command  0 key u64   8 amount u64   16 account u32   20 kind u8 (0 deposit, 1 withdraw)   21 zeroes   24
//! event    0 command   24 balance u64   32
//! answer   0 key u64   8 balance u64   16 kind u8 (0 done, 1 refused)   17 zeroes   24
//! ```

use super::{Action, Command, Event, Outcome};

pub(crate) const COMMAND: usize = 24;
pub(crate) const EVENT: usize = 32;
pub(crate) const ANSWER: usize = 24;

impl Command {
    pub(crate) fn to_bytes(self) -> [u8; COMMAND] {
        let (kind, amount) = match self.action {
            Action::Deposit(amount) => (0, amount),
            Action::Withdraw(amount) => (1, amount),
        };
        let mut bytes = [0; COMMAND];
        bytes[..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..16].copy_from_slice(&amount.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.account.to_le_bytes());
        bytes[20] = kind;
        bytes
    }

    /// Nothing where the bytes are no command.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Command> {
        let bytes: &[u8; COMMAND] = bytes.try_into().ok()?;
        let amount = long(bytes, 8)?;
        let action = match bytes[20..] {
            [0, 0, 0, 0] => Action::Deposit(amount),
            [1, 0, 0, 0] => Action::Withdraw(amount),
            _ => return None,
        };
        let account = u32::from_le_bytes(bytes[16..20].try_into().ok()?);
        Some(Command {
            key: long(bytes, 0)?,
            account,
            action,
        })
    }
}

impl Event {
    pub(crate) fn to_bytes(self) -> [u8; EVENT] {
        let mut bytes = [0; EVENT];
        bytes[..COMMAND].copy_from_slice(&self.command.to_bytes());
        bytes[COMMAND..].copy_from_slice(&self.balance.to_le_bytes());
        bytes
    }

    /// Nothing where the bytes are no event.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Event> {
        let bytes: &[u8; EVENT] = bytes.try_into().ok()?;
        Some(Event {
            command: Command::from_bytes(&bytes[..COMMAND])?,
            balance: long(bytes, COMMAND)?,
        })
    }
}

impl Outcome {
    /// The answer to command `key`.
    pub(crate) fn to_bytes(self, key: u64) -> [u8; ANSWER] {
        let (kind, balance) = match self {
            Outcome::Done { balance } => (0, balance),
            Outcome::Refused { balance } => (1, balance),
        };
        let mut bytes = [0; ANSWER];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..16].copy_from_slice(&balance.to_le_bytes());
        bytes[16] = kind;
        bytes
    }

    /// The command's key and its outcome; nothing where the bytes are no answer.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(u64, Outcome)> {
        let bytes: &[u8; ANSWER] = bytes.try_into().ok()?;
        let (key, balance) = (long(bytes, 0)?, long(bytes, 8)?);
        let outcome = match bytes[16..] {
            [0, 0, 0, 0, 0, 0, 0, 0] => Outcome::Done { balance },
            [1, 0, 0, 0, 0, 0, 0, 0] => Outcome::Refused { balance },
            _ => return None,
        };
        Some((key, outcome))
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_back_as_it_went() {
        for action in [Action::Deposit(7), Action::Withdraw(u64::MAX)] {
            let command = Command {
                key: 1 << 60,
                account: u32::MAX,
                action,
            };
            assert_eq!(Command::from_bytes(&command.to_bytes()), Some(command));
            let event = Event { command, balance: 99 };
            assert_eq!(Event::from_bytes(&event.to_bytes()), Some(event));
        }
        for outcome in [Outcome::Done { balance: 5 }, Outcome::Refused { balance: 6 }] {
            assert_eq!(Outcome::from_bytes(&outcome.to_bytes(3)), Some((3, outcome)));
        }
    }

    #[test]
    fn other_bytes_are_nothing() {
        assert_eq!(Command::from_bytes(&[0; COMMAND - 1]), None);
        assert_eq!(Command::from_bytes(&[2; COMMAND]), None);
        assert_eq!(Event::from_bytes(&[0xff; EVENT]), None);
        assert_eq!(Outcome::from_bytes(&[0xff; ANSWER]), None);
        assert_eq!(Outcome::from_bytes(&[]), None);
    }
}

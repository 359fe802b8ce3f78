//! Commands, events and outcomes as bytes, little-endian and of fixed length.
//!
//! ```text
//! command  0 key u64   8 amount u64   16 account u32   20 kind u8 (0 deposit, 1 withdraw)   21 zeroes   24
//! event    0 command   24 outcome   40
//! answer   0 key u64   8 outcome   24
//! outcome  0 balance u64   8 kind u8 (0 done, 1 refused)   9 zeroes   16
//! ```

use super::{Action, Command, Event, Outcome};

pub(crate) const COMMAND: usize = 24;
pub(crate) const EVENT: usize = COMMAND + OUTCOME;
pub(crate) const ANSWER: usize = 8 + OUTCOME;
const OUTCOME: usize = 16;

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
        self.outcome.write(&mut bytes[COMMAND..]);
        bytes
    }

    /// Nothing where the bytes are no event.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Event> {
        let bytes: &[u8; EVENT] = bytes.try_into().ok()?;
        Some(Event {
            command: Command::from_bytes(&bytes[..COMMAND])?,
            outcome: Outcome::read(&bytes[COMMAND..])?,
        })
    }
}

impl Outcome {
    /// The answer to command `key`.
    pub(crate) fn to_bytes(self, key: u64) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        self.write(&mut bytes[8..]);
        bytes
    }

    /// The command's key and its outcome; nothing where the bytes are no answer.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(u64, Outcome)> {
        let bytes: &[u8; ANSWER] = bytes.try_into().ok()?;
        Some((long(bytes, 0)?, Outcome::read(&bytes[8..])?))
    }

    /// Into `OUTCOME` zeroes.
    fn write(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.balance().to_le_bytes());
        bytes[8] = match self {
            Outcome::Done { .. } => 0,
            Outcome::Refused { .. } => 1,
        };
    }

    fn read(bytes: &[u8]) -> Option<Outcome> {
        let balance = long(bytes, 0)?;
        match bytes[8..] {
            [0, 0, 0, 0, 0, 0, 0, 0] => Some(Outcome::Done { balance }),
            [1, 0, 0, 0, 0, 0, 0, 0] => Some(Outcome::Refused { balance }),
            _ => None,
        }
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
            for outcome in [Outcome::Done { balance: 98 }, Outcome::Refused { balance: 99 }] {
                let event = Event { command, outcome };
                assert_eq!(Event::from_bytes(&event.to_bytes()), Some(event));
            }
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

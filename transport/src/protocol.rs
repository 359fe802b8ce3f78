//! The name and the versions of what a mailbox speaks, as the two sides of a resolution tell each other.

use std::borrow::Cow;
use std::fmt;

use crate::codec::DecodeError;

/// What somebody who resolves a mailbox will speak to it: a protocol's name and one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The protocol's name, 1 to 255 bytes.
    pub name: Cow<'static, str>,
    /// The version of the messages to come.
    pub version: u16,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.name.escape_debug(), self.version)
    }
}

/// What a mailbox understands: a protocol's name and a range of versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spoken {
    /// The protocol's name, 1 to 255 bytes.
    pub name: Cow<'static, str>,
    /// The oldest version that is understood.
    pub oldest: u16,
    /// The newest version that is understood.
    pub newest: u16,
}

impl Spoken {
    /// Whether what was asked for is understood.
    pub fn understands(&self, asked: &Asked) -> bool {
        self.name == asked.name && (self.oldest..=self.newest).contains(&asked.version)
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_debug();
        if self.oldest == self.newest {
            write!(f, "{name} version {}", self.newest)
        } else {
            write!(f, "{name} versions {} to {}", self.oldest, self.newest)
        }
    }
}

/// Why a mailbox was not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no mailbox of this name.
    NoSuchMailbox,
    /// The mailbox does not understand what was asked for; this is what it speaks, `None` for raw bytes.
    SpeaksOther(Option<Spoken>),
    /// The session has had as many handles as it may.
    TooManyHandles,
}

impl Refusal {
    pub(crate) fn to_wire(&self) -> u8 {
        match self {
            Refusal::NoSuchMailbox => 0,
            Refusal::SpeaksOther(_) => 1,
            Refusal::TooManyHandles => 2,
        }
    }

    pub(crate) fn from_wire(reason: u8, speaks: Option<Spoken>) -> Result<Refusal, DecodeError> {
        Ok(match reason {
            0 => Refusal::NoSuchMailbox,
            1 => Refusal::SpeaksOther(speaks),
            2 => Refusal::TooManyHandles,
            other => {
                return Err(DecodeError::Unknown {
                    field: "reason of a refusal",
                    value: u64::from(other),
                });
            }
        })
    }

    pub(crate) fn speaks(&self) -> Option<&Spoken> {
        match self {
            Refusal::SpeaksOther(speaks) => speaks.as_ref(),
            Refusal::NoSuchMailbox | Refusal::TooManyHandles => None,
        }
    }
}

/// What a mailbox that speaks `spoken` says to somebody who asks for `asked`. Raw bytes may be sent to any mailbox: what
/// they mean is then between sender and receiver.
pub(crate) fn admit(spoken: Option<&Spoken>, asked: Option<&Asked>) -> Result<(), Refusal> {
    match (spoken, asked) {
        (_, None) => Ok(()),
        (Some(spoken), Some(asked)) if spoken.understands(asked) => Ok(()),
        (spoken, Some(_)) => Err(Refusal::SpeaksOther(spoken.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_an_older_and_a_newer_version_and_a_mailbox_of_raw_bytes_are_refused() {
        let spoken = Spoken {
            name: "chat".into(),
            oldest: 2,
            newest: 3,
        };
        let asked = |name: &'static str, version| {
            let asked = Asked {
                name: name.into(),
                version,
            };
            admit(Some(&spoken), Some(&asked)).is_ok()
        };
        assert!(asked("chat", 2) && asked("chat", 3));
        assert!(!asked("chat", 1) && !asked("chat", 4) && !asked("chad", 2));
        let asked = Asked {
            name: "chat".into(),
            version: 2,
        };
        assert_eq!(admit(None, Some(&asked)), Err(Refusal::SpeaksOther(None)));
        assert_eq!(admit(Some(&spoken), None), Ok(()));
    }

    #[test]
    fn names_of_a_peer_are_printed_escaped() {
        let asked = Asked {
            name: "a\u{1b}[2J".into(),
            version: 1,
        };
        assert!(!asked.to_string().contains('\u{1b}'));
    }
}

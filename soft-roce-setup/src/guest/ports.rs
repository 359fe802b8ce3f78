//! The ports between host and guest, and what is said on the control port: one message a line.

use std::str::FromStr;

pub(crate) const CONTROL: &str = "control";
pub(crate) const STDOUT: &str = "stdout";
pub(crate) const STDERR: &str = "stderr";

/// The host's word to start the command: all guests are ready.
pub(crate) const GO: &str = "go";

/// What a guest tells the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// This program runs as the guest's process 1.
    Hello,
    /// Devices and mounts are there; the guest waits for `GO`.
    Ready,
    /// The guest gives up, and why.
    Failed(String),
    /// The command has ended. The counts tell the host when it has all of the output.
    Ended { status: i32, stdout: u64, stderr: u64 },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the guest said {line:?}, which means nothing")]
pub(crate) struct BadMessage {
    line: String,
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hello => f.write_str("hello"),
            Self::Ready => f.write_str("ready"),
            Self::Failed(why) => write!(f, "failed {}", why.replace('\n', "; ")),
            Self::Ended {
                status,
                stdout,
                stderr,
            } => write!(f, "ended {status} {stdout} {stderr}"),
        }
    }
}

impl FromStr for Message {
    type Err = BadMessage;

    fn from_str(line: &str) -> Result<Self, BadMessage> {
        let bad = || BadMessage {
            line: line.chars().take(200).collect(),
        };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "hello" => Ok(Self::Hello),
            "ready" => Ok(Self::Ready),
            "failed" => Ok(Self::Failed(rest.into())),
            "ended" => {
                let mut numbers = rest.split(' ');
                let mut next = || numbers.next().ok_or_else(bad);
                let status = next()?.parse().map_err(|_| bad())?;
                let stdout = next()?.parse().map_err(|_| bad())?;
                let stderr = next()?.parse().map_err(|_| bad())?;
                Ok(Self::Ended {
                    status,
                    stdout,
                    stderr,
                })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_round_trip_on_one_line() {
        let ended = Message::Ended {
            status: -1,
            stdout: u64::MAX,
            stderr: 0,
        };
        for message in [
            Message::Hello,
            Message::Ready,
            Message::Failed("a b".into()),
            ended,
        ] {
            assert_eq!(message.to_string().parse(), Ok(message));
        }
        assert!(!Message::Failed("a\nb".into()).to_string().contains('\n'));
    }

    #[test]
    fn anything_else_is_an_error() {
        for line in [
            "",
            "nonsense",
            "ended",
            "ended 1",
            "ended 1 2 x",
            "ended 99999999999 0 0",
        ] {
            assert!(line.parse::<Message>().is_err(), "{line:?}");
        }
    }
}

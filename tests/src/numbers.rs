//! Numbers that flow from one process to another, in messages whose every byte follows from the number, and the account
//! of what became of each.

use std::time::{Duration, Instant};

use transport::{Address, Mailbox};

use crate::audit::PATIENCE;

/// Says how many numbers there were, after the last.
const END: u64 = u64::MAX;

/// Lengths of messages, by their number: 8 to 200 bytes.
fn len(number: u64) -> usize {
    8 + (number.wrapping_mul(0x9e37_79b9) >> 7) as usize % 193
}

/// Fills `message` with a number.
fn write(number: u64, message: &mut Vec<u8>) {
    message.clear();
    message.resize(len(number), number as u8);
    message[..8].copy_from_slice(&number.to_le_bytes());
}

/// The number that a message tells.
///
/// # Panics
/// When it is not a whole message of this kind.
pub fn read(message: &[u8]) -> u64 {
    let number = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
    if number != END {
        assert_eq!(message.len(), len(number), "the length of message {number}");
        let whole = message[8..].iter().all(|byte| *byte == number as u8);
        assert!(whole, "a byte of message {number}");
    }
    number
}

/// Sends numbers from `from` on for as long as `more` says so. Returns the next one.
///
/// # Errors
/// What a send came back with; the number returned beside it was not sent.
pub fn send(
    address: &Address,
    from: u64,
    mut more: impl FnMut(u64) -> bool,
) -> Result<u64, (u64, transport::SendError)> {
    let mut message = Vec::new();
    let mut next = from;
    while more(next) {
        write(next, &mut message);
        address.send(&message).map_err(|error| (next, error))?;
        next += 1;
    }
    Ok(next)
}

/// Says that there were `total` numbers.
///
/// # Panics
/// When it can't be sent.
pub fn send_end(address: &Address, total: u64) {
    let message = [END.to_le_bytes(), total.to_le_bytes()].concat();
    address.send(&message).expect("the end is sent");
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Numbers, each once and in order.
    pub count: u64,
    /// How many there were, if the sender came to say so.
    pub total: Option<u64>,
}

/// Takes numbers until the end has come, or until there are none left and `no_more` says that none will come.
///
/// # Panics
/// When one is lost, doubled, out of order or damaged, when the end comes and some are missing, or when nothing comes for too
/// long.
pub fn receive(inbox: &mut Mailbox, no_more: impl Fn() -> bool) -> Received {
    let mut count = 0;
    let mut since = Instant::now();
    loop {
        // Asked before the look: what came until then is found.
        let last = no_more();
        let Ok(message) = inbox.recv_timeout(Duration::from_millis(50)) else {
            return Received { count, total: None };
        };
        let Some(message) = message else {
            if last {
                return Received { count, total: None };
            }
            assert!(since.elapsed() < PATIENCE, "nothing after {count} messages");
            continue;
        };
        since = Instant::now();
        match read(message.payload) {
            END => {
                let total = u64::from_le_bytes(message.payload[8..16].try_into().expect("eight bytes"));
                assert_eq!(count, total, "received and sent");
                return Received {
                    count,
                    total: Some(total),
                };
            }
            number => assert_eq!(number, count, "lost, doubled or out of order"),
        }
        count += 1;
    }
}

/// A size from the environment: the small one of every day by default.
///
/// # Panics
/// When the variable is no number.
pub fn size(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error}")),
        Err(_) => default,
    }
}

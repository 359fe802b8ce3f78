//! The shape of a load: how many threads send, to a node with how many peers, and how fast.
//!
//! A *stream* is what one sending thread sends through one near node: its messages come in order, so each carries
//! the stream and a number of its own. There are as many streams as there are senders or peers, whichever is more, and
//! they are dealt out to both in turn.

use serde::{Deserialize, Serialize};

use crate::clock;

/// Bits of a message's number that count within its stream.
const SEQUENCE_BITS: u32 = 48;
/// Time between the announcement of a round at a fixed rate and its first message: both processes are ready by then.
pub(crate) const LEAD_NS: u64 = 50_000_000;

/// Messages that are handed over in one call, where nothing else is asked for, and at most.
pub(crate) const TOGETHER: u32 = 32;
pub(crate) const MOST_TOGETHER: u32 = 64;

/// How many send to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Threads of the near process that send.
    pub(crate) senders: u32,
    /// Near nodes, each a peer of the far one.
    pub(crate) peers: u32,
    /// Long messages are sent as slices, which are copied, where buffers would do.
    pub(crate) copied: bool,
    /// Messages of a stream that are handed over in one call, where they are sent as fast as it goes.
    pub(crate) together: u32,
}

impl Load {
    pub(crate) const ONE: Load = Load {
        senders: 1,
        peers: 1,
        copied: false,
        together: 1,
    };

    pub(crate) fn streams(self) -> u32 {
        self.senders.max(self.peers)
    }

    /// The near node that a stream goes through.
    pub(crate) fn peer_of(self, stream: u32) -> u32 {
        stream % self.peers
    }

    /// The streams of one sender.
    pub(crate) fn of_sender(self, sender: u32) -> impl Iterator<Item = u32> {
        (sender..self.streams()).step_by(self.senders as usize)
    }

    /// How many of a round's `count` messages go through a stream.
    pub(crate) fn share(self, stream: u32, count: u64) -> u64 {
        let streams = u64::from(self.streams());
        count / streams + u64::from(u64::from(stream) < count % streams)
    }
}

/// The number that a message carries.
#[inline]
pub(crate) fn number(stream: u32, sequence: u64) -> u64 {
    u64::from(stream) << SEQUENCE_BITS | sequence
}

/// Writes its number at both ends of a message, as far as it is long enough: so one that is cut or is not all there is found.
#[inline]
pub(crate) fn mark(message: &mut [u8], number: u64) {
    let bytes = number.to_le_bytes();
    let end = message.len().saturating_sub(bytes.len());
    if end >= bytes.len() {
        message[end..].copy_from_slice(&bytes);
    }
    message[..bytes.len()].copy_from_slice(&bytes);
}

/// The stream and the number within it that a message carries.
#[inline]
pub(crate) fn parts(number: u64) -> (usize, u64) {
    (
        (number >> SEQUENCE_BITS) as usize,
        number & ((1 << SEQUENCE_BITS) - 1),
    )
}

/// A fixed rate: when each message is meant to be sent, in ticks of the counter that both processes read.
///
/// A message that is late, because those before it took long, is timed from when it was meant to go: what a stall
/// does to all who wait behind it is in the percentiles (there is no *coordinated omission*).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pace {
    first: u64,
    interval: f64,
}

impl Pace {
    /// `rate` messages a second of all streams together, the first of them a little later than now.
    pub(crate) fn begin(rate: f64) -> Pace {
        let ticks_per_ns = 1.0 / clock::ns_per_tick();
        Pace {
            first: clock::ticks() + (LEAD_NS as f64 * ticks_per_ns) as u64,
            interval: 1e9 / rate * ticks_per_ns,
        }
    }

    /// When the message is meant to go: streams take turns.
    #[inline]
    pub(crate) fn due(&self, load: Load, stream: u32, sequence: u64) -> u64 {
        let index = sequence * u64::from(load.streams()) + u64::from(stream);
        self.first + (index as f64 * self.interval) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_one_sender_and_every_message_one_stream() {
        for (senders, peers) in [(1, 1), (1, 3), (2, 5), (4, 2), (3, 3)] {
            let load = Load {
                senders,
                peers,
                ..Load::ONE
            };
            let mut streams: Vec<u32> = (0..senders).flat_map(|sender| load.of_sender(sender)).collect();
            streams.sort_unstable();
            assert_eq!(streams, (0..senders.max(peers)).collect::<Vec<_>>());
            let all: u64 = streams.iter().map(|stream| load.share(*stream, 1001)).sum();
            assert_eq!(all, 1001, "{load:?}");
        }
    }

    #[test]
    fn a_number_comes_apart_again() {
        for (stream, sequence) in [(0, 0), (3, 1 << 40), (65_535, (1 << SEQUENCE_BITS) - 1)] {
            assert_eq!(parts(number(stream, sequence)), (stream as usize, sequence));
        }
    }

    #[test]
    fn messages_of_all_streams_are_due_one_interval_apart() {
        let load = Load {
            senders: 2,
            ..Load::ONE
        };
        let pace = Pace {
            first: 1000,
            interval: 10.0,
        };
        let due: Vec<u64> = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(stream, sequence)| pace.due(load, stream, sequence))
            .to_vec();
        assert_eq!(due, [1000, 1010, 1020, 1030]);
    }
}

//! Which faults a history has, and how often: drawn from its seed. A rate is the `n` of "once in n chances"; 0 is never.

use std::time::Duration;

use crate::random::Random;

/// The faults of one history.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    /// Of new connections: those that die after some bytes.
    pub(super) fused: u64,
    /// The most bytes before such a death.
    pub(super) longest_fuse: u64,
    /// A death is told to nobody, or to one end alone.
    pub(super) silent_deaths: bool,
    /// Of steps: a connection dies.
    pub(super) cut: u64,
    /// Of new connections: those that carry nothing after their handshake.
    pub(super) mute: u64,
    /// Of steps: a transport is out for a time.
    pub(super) outage: u64,
    /// Of pairs of a host and an address: somebody stands between them.
    pub(super) in_between: u64,
    /// Of steps: two nodes are cut off from each other for a time.
    pub(super) partition: u64,
    /// Of steps: a node stands still for a time.
    pub(super) standstill: u64,
    /// Of steps: a node crashes.
    pub(super) crash: u64,
    /// Of steps: a session is closed in good order.
    pub(super) goodbye: u64,
    /// Of steps of a mailbox: it is closed, and opened anew.
    pub(super) reopened: u64,
    /// Of messages taken: the actor panics.
    pub(super) panic: u64,
    /// Of pushes: the sender finds no room although there is.
    pub(super) blocked: u64,
    /// Longest time that something takes on its way, in microseconds.
    pub(super) latency: u64,
    /// How often an actor looks into its mailbox: once in so many steps.
    pub(super) laziness: u64,
}

impl Faults {
    pub(super) fn draw(random: &mut Random) -> Faults {
        let mut rate = |present: u64, rates: &[u64]| {
            if random.one_in(present) {
                *random.pick(rates)
            } else {
                0
            }
        };
        Faults {
            fused: rate(2, &[1, 2, 4]),
            longest_fuse: rate(1, &[400, 2_000, 20_000]),
            silent_deaths: rate(2, &[1]) == 1,
            cut: rate(3, &[10, 40]),
            mute: rate(4, &[2, 4]),
            outage: rate(4, &[30, 60]),
            in_between: rate(2, &[1, 2]),
            partition: rate(4, &[30, 60]),
            standstill: rate(4, &[30, 60]),
            crash: rate(4, &[50, 100]),
            goodbye: rate(4, &[30, 60]),
            reopened: rate(3, &[30, 100]),
            panic: rate(4, &[5, 50]),
            blocked: rate(3, &[2, 10]),
            latency: rate(1, &[0, 300, 3_000]),
            laziness: rate(1, &[1, 1, 3, 20]),
        }
    }

    /// Nothing of this kind from here on: only what a network without faults does.
    pub(super) fn stop(&mut self) {
        *self = Faults {
            fused: 0,
            cut: 0,
            mute: 0,
            outage: 0,
            partition: 0,
            standstill: 0,
            crash: 0,
            goodbye: 0,
            reopened: 0,
            panic: 0,
            blocked: 0,
            laziness: 1,
            ..self.clone()
        };
    }

    /// Whether links and nodes have none, so that no link is to be given up.
    pub(super) fn spare_links(&self) -> bool {
        [
            self.fused,
            self.cut,
            self.mute,
            self.outage,
            self.partition,
            self.standstill,
            self.crash,
            self.goodbye,
        ] == [0; 8]
    }

    /// How long something lasts: mostly short, at times longer than everybody's patience.
    pub(super) fn lasting(random: &mut Random) -> Duration {
        let most = *random.pick(&[5_000, 30_000, 150_000]);
        random.micros(most)
    }
}

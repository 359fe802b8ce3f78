//! Where the time of one message goes, from the call that sends it to the handler that has seen it.
//!
//! | stage | what | how it is told apart |
//! | --- | --- | --- |
//! | claim, encode, commit | the slot in the send ring, the payload into it, the header and its checksum | in a loop over such a ring alone |
//! | post | the rest of the send: the mailbox's credit, and handing the bytes to the device | time of the send, less those three |
//! | device | until the peer could have seen it: the device, the wire, the wake-up | one way, less all others |
//! | poll | one look at the rings, as when there is nothing | looks that found nothing |
//! | dispatch | checking the frame, handing it out, giving its room back | the look that found it, less an empty one |
//!
//! They add up to one way. Each is a median; the clock, read five times in a round trip, is taken off.

use transport::frame::{Integrity, Kind};
use transport::memory::RingMemory;
use transport::ring::SendRing;

use super::Setup;
use super::inbox::{Order, send};
use super::requester::Requester;
use crate::carrier::Transport;
use crate::clock;
use crate::error::{Error, doing, failed};
use crate::measure::{Figures, Laps, Metric};
use crate::two_process::{Near, Plan};
use crate::wait::{Gone, Idle, Next};

/// Messages that the bare ring is filled with and emptied of again.
const FILL: usize = 64;
const FILLS: usize = 64;
/// Longer messages go on the large lane, whose frames carry no checksum.
const LONGEST_ORDINARY: usize = 16 << 10;

/// A requester that times its stages.
pub(super) struct InStages {
    requester: Requester,
    ring: RingCosts,
    clock: f64,
    send: Laps,
    empty_look: Laps,
    finding_look: Laps,
    figures: Figures,
}

impl InStages {
    pub(super) fn new(requester: Requester, setup: &Setup) -> Result<InStages, Error> {
        let clock = clock_ns();
        Ok(InStages {
            requester,
            ring: RingCosts::measure(setup, clock)?,
            clock,
            send: Laps::new(),
            empty_look: Laps::new(),
            finding_look: Laps::new(),
            figures: Figures::new(),
        })
    }
}

impl Near for InStages {
    fn run(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error> {
        let InStages {
            requester,
            send: sends,
            empty_look,
            finding_look,
            ..
        } = self;
        let mut order = Order::new(plan.size, 1);
        let mut one_way = Laps::new();
        for round_trip in 0..plan.count {
            let (message, peer) = requester.next(round_trip);
            let began = clock::ticks();
            send(&peer.far, message).map_err(failed("sending a message"))?;
            let sent = clock::ticks();
            sends.add(sent - began);
            let mut idle = Idle::new(peer.inbox.wait, gone);
            loop {
                let looked = clock::ticks();
                let found = peer.inbox.look(|message| order.see(message.payload))?;
                let seen = clock::ticks();
                if found > 0 {
                    finding_look.add(seen.saturating_sub(looked));
                    break;
                }
                empty_look.add(seen.saturating_sub(looked));
                if idle.found_nothing()? == Next::Sleep
                    && peer.inbox.sleep(|message| order.see(message.payload))? > 0
                {
                    break;
                }
            }
            let took = clock::ticks().saturating_sub(began);
            laps.add(took);
            one_way.add(took);
        }
        order.check()?;
        requester.end_of_round_trips()?;

        let less_clock = |laps: &mut Laps| (laps.median_ns() - self.clock).max(0.0);
        let (send, look) = (less_clock(&mut self.send), less_clock(&mut self.empty_look));
        let found = less_clock(&mut self.finding_look);
        let RingCosts {
            claim,
            encode,
            commit,
        } = self.ring;
        let post = (send - claim - encode - commit).max(0.0);
        let dispatch = (found - look).max(0.0);
        let one_way = one_way.median_ns() / 2.0 - 2.0 * self.clock;
        self.figures = Figures::from([
            (Metric::ClaimNs, claim),
            (Metric::EncodeNs, encode),
            (Metric::CommitNs, commit),
            (Metric::PostNs, post),
            (
                Metric::DeviceNs,
                (one_way - claim - encode - commit - post - look - dispatch).max(0.0),
            ),
            (Metric::PollNs, look),
            (Metric::DispatchNs, dispatch),
        ]);
        Ok(())
    }

    fn figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }
}

/// What a message costs in a send ring alone, in nanoseconds.
struct RingCosts {
    claim: f64,
    encode: f64,
    commit: f64,
}

impl RingCosts {
    fn measure(setup: &Setup, clock: f64) -> Result<RingCosts, Error> {
        let integrity = match setup.transport {
            Transport::Tcp | Transport::Shm => Integrity::None,
            Transport::Rdma if setup.size > LONGEST_ORDINARY => Integrity::None,
            Transport::Rdma => Integrity::salted(0x5eed),
        };
        let bytes = (2 * FILL * (setup.size + 64))
            .next_power_of_two()
            .max(8 * (setup.size + 64).next_power_of_two());
        let memory = RingMemory::anonymous(bytes).map_err(doing("taking memory for a ring"))?;
        let ring = SendRing::new(memory, integrity);
        let payload = vec![0x5a; setup.size];
        let [mut claiming, mut encoding, mut committing] = [Laps::new(), Laps::new(), Laps::new()];
        for _ in 0..FILLS {
            for _ in 0..FILL {
                let began = clock::ticks();
                let mut claim = ring.claim(setup.size).map_err(failed("claiming a slot"))?;
                let claimed = clock::ticks();
                claim.body().copy_from_slice(&payload);
                let encoded = clock::ticks();
                claim.commit(Kind::Message, 0, 0, 0);
                let committed = clock::ticks();
                claiming.add(claimed.saturating_sub(began));
                encoding.add(encoded.saturating_sub(claimed));
                committing.add(committed.saturating_sub(encoded));
            }
            let end = ring.committed(ring.released(), u64::MAX);
            ring.release(end).map_err(failed("emptying a ring"))?;
        }
        let cost = |laps: &mut Laps| (laps.median_ns() - clock).max(0.0);
        Ok(RingCosts {
            claim: cost(&mut claiming),
            encode: cost(&mut encoding),
            commit: cost(&mut committing),
        })
    }
}

/// What two readings of the clock, one right after the other, are apart.
fn clock_ns() -> f64 {
    let mut laps = Laps::new();
    for _ in 0..FILL * FILLS {
        let began = clock::ticks();
        laps.add(clock::ticks().saturating_sub(began));
    }
    laps.median_ns()
}

//! A side whose work is done by two processes: this one (near) and a child of it (far).
//!
//! The near half drives: it opens the far half with a [`Role`], announces each round to it, does its own part and
//! collects what the far half says. Between rounds the child sleeps in a read of its control pipe. It lives
//! no longer than this process, and nothing here waits without a deadline.

mod control;
mod far;
mod peer;
mod role;

use std::time::Duration;

pub(crate) use control::{FarReport, Plan, Work};
pub(crate) use far::serve;
#[cfg_attr(not(feature = "clusters"), allow(unreachable_pub))]
pub(crate) use peer::Peer;
pub(crate) use role::{Far, Kind, Role};

use crate::clock;
use crate::error::Error;
use crate::load::{LEAD_NS, Pace};
use crate::measure::{Figures, Laps, Metric, RoundResult, Side, rates};
use crate::wait::Gone;

/// The half of a side that runs in this process.
pub(crate) trait Near {
    /// Does the near part of a round: `plan.count` round trips, each ended by [`Laps::lap`], or as many messages
    /// one way. Must return an error soon after `gone` is set, and when nothing moves any more.
    fn run(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error>;

    /// What it measured of the round besides.
    fn figures(&mut self) -> Figures {
        Figures::new()
    }
}

/// Both halves together.
pub(crate) struct TwoProcesses<N> {
    near: N,
    peer: Peer,
    laps: Laps,
    work: Work,
    size: usize,
    /// Messages a second; as many as there can be where there is none.
    rate: Option<f64>,
}

impl<N: Near> TwoProcesses<N> {
    /// Starts the far half in `role`, then the near half with the address that the far half is found at.
    pub(crate) fn start(
        role: impl Role,
        work: Work,
        size: usize,
        connect: impl FnOnce(&str) -> Result<N, Error>,
    ) -> Result<TwoProcesses<N>, Error> {
        let mut peer = Peer::spawn()?;
        let address = peer.open(role)?;
        let near = connect(&address).map_err(|near| peer.reason().unwrap_or(near))?;
        Ok(TwoProcesses {
            near,
            peer,
            laps: Laps::new(),
            work,
            size,
            rate: None,
        })
    }

    /// The same, with messages at a fixed rate.
    pub(crate) fn at_rate(self, rate: f64) -> TwoProcesses<N> {
        TwoProcesses {
            rate: Some(rate),
            ..self
        }
    }
}

impl<N: Near> Side for TwoProcesses<N> {
    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
        let plan = Plan {
            work: self.work,
            size: self.size,
            count,
            pace: self.rate.map(Pace::begin),
        };
        let first = clock::monotonic_ns() + if plan.pace.is_some() { LEAD_NS } else { 0 };
        self.peer.begin(&plan)?;
        let (cpu_before, began) = (clock::cpu_ns(), clock::monotonic_ns());
        let ran = self.near.run(&plan, &mut self.laps, self.peer.gone());
        let near_cpu = clock::cpu_ns() - cpu_before;
        if let Err(near) = ran {
            return Err(self.peer.reason().unwrap_or(near));
        }
        let far = self.peer.finish()?;
        let elapsed = Duration::from_nanos(far.finished_ns.saturating_sub(began.max(first)).max(1));
        let cpu_ns = near_cpu + far.cpu_ns;
        Ok(RoundResult {
            elapsed,
            figures: self.figures(&plan, elapsed, cpu_ns, far.figures),
        })
    }

    /// A tenth of a second's worth.
    fn first_count(&self) -> u64 {
        const FIRST: u64 = 64;
        match self.rate {
            None => FIRST,
            Some(rate) => ((rate / 10.0) as u64).clamp(1, FIRST),
        }
    }
}

impl<N: Near> TwoProcesses<N> {
    fn figures(&mut self, plan: &Plan, elapsed: Duration, cpu_ns: u64, far: Figures) -> Figures {
        let mut figures = match plan.work {
            Work::PingPong => {
                let messages = 2 * plan.count;
                let mut figures = self.laps.percentiles(2);
                figures.insert(Metric::CpuNsPerMessage, cpu_ns as f64 / messages.max(1) as f64);
                figures
            }
            Work::Stream => rates(Metric::MessagesPerSecond, plan.count, plan.size, elapsed, cpu_ns),
        };
        figures.extend(self.near.figures());
        if plan.pace.is_some() {
            figures.extend(far);
        }
        figures
    }
}

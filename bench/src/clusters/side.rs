//! A side: server and client in processes of their own, told what to do through their control pipes.

use std::time::Duration;

use super::{App, End, Over};
use crate::cores;
use crate::error::Error;
use crate::measure::{Metric, RoundResult, Side, rates};
use crate::two_process::{Peer, Plan, Work};

struct TwoChildren {
    server: Peer,
    client: Peer,
    work: Work,
    size: usize,
}

/// An application over something, doing one kind of work.
pub(crate) fn side(app: App, over: Over, work: Work, size: usize) -> Result<Box<dyn Side>, Error> {
    let mut end = End {
        app,
        over,
        server: None,
    };
    let mut server = Peer::spawn()?;
    end.server = Some(server.open(end.clone())?);
    // The near core is this process's, which sleeps meanwhile.
    let mut client = Peer::spawn_on(cores::pinned().map(|cores| cores.near))?;
    client.open(end)?;
    Ok(Box::new(TwoChildren {
        server,
        client,
        work,
        size,
    }))
}

impl Side for TwoChildren {
    fn run_round(&mut self, count: u64) -> Result<RoundResult, Error> {
        let plan = Plan {
            work: self.work,
            size: self.size,
            count,
            pace: None,
        };
        let before = ask(&mut self.server, &plan)?.cpu_so_far_ns;
        let mut client = ask(&mut self.client, &plan)?;
        let after = ask(&mut self.server, &plan)?.cpu_so_far_ns;
        let cpu_ns = client.cpu_ns + (after - before);
        let elapsed = Duration::from_nanos(client.finished_ns.saturating_sub(client.began_ns).max(1));
        let figures = match self.work {
            Work::PingPong => {
                let mut figures = std::mem::take(&mut client.figures);
                figures.insert(Metric::CpuNsPerMessage, cpu_ns as f64 / (2 * count.max(1)) as f64);
                figures
            }
            Work::Stream => rates(Metric::MessagesPerSecond, count, self.size, elapsed, cpu_ns),
        };
        Ok(RoundResult { elapsed, figures })
    }
}

fn ask(child: &mut Peer, plan: &Plan) -> Result<crate::two_process::FarReport, Error> {
    child.begin(plan)?;
    child.finish()
}

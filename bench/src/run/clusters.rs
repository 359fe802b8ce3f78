//! Applications of actor runtimes and of gRPC on the transport that they bring and on ours.

use super::place;
use super::reporting::{Report, progress};
use crate::carrier::Transport;
use crate::cli::Clusters;
use crate::clusters::{Over, side};
use crate::error::Error;
use crate::measure::{self, Side, take_turns};
use crate::report::Subject;
use crate::two_process::Work;

/// Each application on its own transport and on each of ours, taking turns.
pub(super) fn clusters(options: &Clusters) -> Result<(), Error> {
    let ours: Vec<Over> = options
        .transport
        .iter()
        .map(|transport| match transport {
            Transport::Tcp => Over::Tcp,
            Transport::Shm => Over::Shm,
            Transport::Rdma => Over::Rdma,
        })
        .collect();
    place(&options.placement)?;
    let mut report = Report::begin(&options.output)?;
    for &app in &options.runtime {
        for work in [Work::PingPong, Work::Stream] {
            for &size in &options.size {
                let subject = |over: Over| Subject {
                    bench: app.bench(work),
                    transport: over.name().to_owned(),
                    size,
                };
                progress(&subject(Over::Own));
                let all: Vec<Over> = std::iter::once(Over::Own).chain(ours.iter().copied()).collect();
                let mut starts: Vec<Vec<_>> = all.iter().map(|_| Vec::new()).collect();
                for _ in 0..options.starts {
                    let mut sides = Vec::new();
                    for &over in &all {
                        sides.push(side(app, over, work, size)?);
                    }
                    let mut turns: Vec<&mut dyn Side> =
                        sides.iter_mut().map(|side| &mut **side as _).collect();
                    let found = take_turns(&mut turns, options.extent.schedule().shared(options.starts))?;
                    for (figures, found) in starts.iter_mut().zip(found) {
                        figures.push(found);
                    }
                }
                let medians: Vec<_> = starts.iter().map(|figures| measure::medians(figures)).collect();
                for (over, figures) in ours.iter().zip(&medians[1..]) {
                    report.add(subject(*over).measurements(figures, Some(&medians[0])))?;
                }
            }
        }
    }
    report.table.note(
        "the floor is the same application on the transport that its runtime brings (ractor and tonic: TCP, tellus: QUIC); \
         percentiles are of round trips, in full",
    );
    report.end()
}

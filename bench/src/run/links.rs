//! The benches of messages: one kind of traffic over one kind of link, beside its floor or at a fixed rate.

use super::reporting::{Floor, Report};
use super::{device_for, place};
use crate::carrier::{SmallFrames, Transport};
use crate::cli::{Device, Latency, Messages, RING, Throughput, Traffic};
use crate::error::Error;
use crate::floor::perftest::Perftest;
use crate::floor::{shm, tcp};
use crate::load::{Load, TOGETHER};
use crate::measure::Side;
use crate::ours;
use crate::report::Subject;
use crate::two_process::Work;
use crate::wait::Wait;

pub(super) fn latency(options: &Latency) -> Result<(), Error> {
    let messages = &options.messages;
    if options.rate.is_empty() {
        return beside_floor(messages, Work::PingPong, options.load(), options.stages);
    }
    let mut report = begin(messages)?;
    for &size in &messages.traffic.size {
        for link in Link::all(messages, Work::PingPong, options.load()) {
            for &rate in &options.rate {
                let subject = Subject {
                    bench: "paced",
                    ..link.subject(size)
                };
                let side = ours::paced(link.setup(size)?, rate)?;
                report.alone(&subject, side, messages.traffic.extent.schedule())?;
            }
        }
    }
    report.table.note(
        "percentiles are one way, from when a message was meant to be sent until it was taken; the rate is what was reached",
    );
    report.end()
}

pub(super) fn throughput(options: &Throughput) -> Result<(), Error> {
    beside_floor(&options.messages, Work::Stream, options.load(), false)
}

fn beside_floor(options: &Messages, work: Work, load: Load, stages: bool) -> Result<(), Error> {
    let schedule = options.traffic.extent.schedule();
    let mut report = begin(options)?;
    for &size in &options.traffic.size {
        for link in Link::all(options, work, load) {
            let floors = link.floors(size, options.floor_size.unwrap_or(size))?;
            report.beside_each(link.ours(size)?, floors, schedule)?;
            if stages {
                let subject = Subject {
                    bench: "where",
                    ..link.subject(size)
                };
                report.alone(&subject, ours::in_stages(link.setup(size)?)?, schedule)?;
            }
        }
    }
    report.end()
}

fn begin(options: &Messages) -> Result<Report, Error> {
    if options.transport != Transport::Rdma && options.small_frames.contains(&SmallFrames::Announced) {
        return Err(Error::NothingToAnnounce {
            transport: options.transport.name(),
        });
    }
    place(&options.traffic.placement)?;
    Report::begin(&options.traffic.output)
}

pub(super) fn floors(transport: Transport, traffic: &Traffic) -> Result<(), Error> {
    place(&traffic.placement)?;
    let mut report = Report::begin(&traffic.output)?;
    for &size in &traffic.size {
        for work in [Work::PingPong, Work::Stream] {
            let link = Link::plain(transport, work, traffic.wait, &traffic.device);
            report.floor_alone(&link.subject(size), link.floor(size)?, traffic.extent.schedule())?;
        }
    }
    report.end()
}

/// One kind of traffic over one kind of link.
pub(super) struct Link<'a> {
    pub(super) transport: Transport,
    pub(super) work: Work,
    pub(super) wait: Wait,
    pub(super) load: Load,
    pub(super) ring: usize,
    pub(super) small_frames: SmallFrames,
    pub(super) device: &'a Device,
}

impl<'a> Link<'a> {
    /// What the commands of their own do where nothing else is asked for.
    pub(super) fn plain(transport: Transport, work: Work, wait: Wait, device: &'a Device) -> Link<'a> {
        Link {
            transport,
            work,
            wait,
            load: Load {
                together: TOGETHER,
                ..Load::ONE
            },
            ring: RING,
            small_frames: SmallFrames::Polled,
            device,
        }
    }

    /// One for each way of learning of small frames.
    fn all(options: &'a Messages, work: Work, load: Load) -> impl Iterator<Item = Link<'a>> {
        options.small_frames.iter().map(move |small_frames| Link {
            transport: options.transport,
            work,
            wait: options.traffic.wait,
            load,
            ring: options.ring,
            small_frames: *small_frames,
            device: &options.traffic.device,
        })
    }

    fn setup(&self, size: usize) -> Result<ours::Setup, Error> {
        let device = self.device()?;
        let setup = ours::Setup::new(self.transport, size, self.wait, self.load, self.ring, device)?;
        Ok(setup.with_small_frames(self.small_frames))
    }

    /// The device, for rdma.
    fn device(&self) -> Result<Option<String>, Error> {
        device_for(self.transport, self.device)
    }

    pub(super) fn subject(&self, size: usize) -> Subject {
        Subject {
            bench: bench_name(self.work),
            transport: match self.small_frames {
                SmallFrames::Polled => self.transport.name().to_owned(),
                SmallFrames::Announced => format!("{}-announced", self.transport.name()),
            },
            size,
        }
    }

    pub(super) fn ours(&self, size: usize) -> Result<Box<dyn Side>, Error> {
        ours::messages(self.setup(size)?, self.work)
    }

    /// Floors for messages of `size` bytes, whose own have `floor_size`: the barest one; and of latency over shared memory, one
    /// that goes through as much memory as the ring has.
    fn floors(&self, size: usize, floor_size: usize) -> Result<Vec<Floor>, Error> {
        let subject = self.subject(size);
        let mut floors = vec![Floor {
            subject: subject.clone(),
            side: self.floor(floor_size)?,
        }];
        if self.transport == Transport::Shm && self.work == Work::PingPong {
            let side = shm::side(self.work, floor_size, Some(self.ring), self.wait)?;
            floors.push(Floor {
                subject: Subject {
                    transport: "shm-through-memory".into(),
                    ..subject
                },
                side: Box::new(side),
            });
        }
        Ok(floors)
    }

    pub(super) fn floor(&self, size: usize) -> Result<Box<dyn Side>, Error> {
        Ok(match self.transport {
            Transport::Tcp => Box::new(tcp::side(self.work, size, self.wait)?),
            Transport::Shm => Box::new(shm::side(self.work, size, None, self.wait)?),
            Transport::Rdma => Box::new(Perftest::new(
                &self.device()?.unwrap_or_default(),
                self.work,
                size,
            )?),
        })
    }
}

pub(super) fn bench_name(work: Work) -> &'static str {
    match work {
        Work::PingPong => "latency",
        Work::Stream => "throughput",
    }
}

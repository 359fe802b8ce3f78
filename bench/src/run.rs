//! From a command to a report: which sides take turns, and what is said about those that cannot.

#[cfg(feature = "clusters")]
mod clusters;
mod far_half;
mod links;
#[cfg(feature = "journal-peers")]
mod peers;
mod reporting;

use std::fmt::Display;
use std::path::Path;

use crate::accounts;
use crate::carrier::Transport;
use crate::cli::{Accounts, Command, Device, Everything, Floor, Instructions, Journal, Placement, RING};
use crate::cores;
use crate::error::Error;
use crate::floor::journal::{Mode, Shape};
use crate::load::Load;
use crate::machine;
use crate::measure::{Amount, Schedule};
use crate::ours;
use crate::report::{JsonLines, Subject};
use crate::scratch::{self, Scratch};
use crate::two_process::Work;
use links::Link;
use reporting::{Report, Sides, progress, show};

/// The whole table: payload of its messages, and of its events.
const MESSAGE: usize = 64;
const EVENT: usize = 256;
/// The whole table: rounds and time of each side; eight pairs of sides stay well within a minute.
const EVERYTHING: Schedule = Schedule {
    rounds: 5,
    amount: Amount::Seconds(1.0),
};

/// Runs a command and prints its report.
pub(crate) fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Latency(options) => links::latency(&options),
        Command::Throughput(options) => links::throughput(&options),
        #[cfg(feature = "journal-peers")]
        Command::Journal(options) if options.peers => peers::peers(&options),
        #[cfg(not(feature = "journal-peers"))]
        Command::Journal(options) if options.peers => Err(Error::NotBuilt {
            what: "other durable logs",
            feature: "journal-peers",
        }),
        Command::Journal(options) => journal(&options, Sides::Both),
        Command::Accounts(options) => accounts(&options),
        Command::Top(options) => crate::top::run(
            &options.url,
            std::time::Duration::from_secs_f64(options.every),
            options.once,
        ),
        Command::Observed(options) => crate::observed::run(
            options.pairs,
            std::time::Duration::from_secs_f64(options.seconds),
            std::time::Duration::from_secs_f64(options.scraped_every),
        ),
        Command::Instructions(options) => instructions(&options),
        Command::Counted { way, part } => {
            crate::tied::die_with_parent()?;
            crate::instructions::run_part(way, part)
        }
        #[cfg(feature = "journal-peers")]
        Command::PeerAppends {
            peer,
            dir,
            size,
            batch,
            threads,
            commits,
        } => {
            let shape = Shape { size, batch, threads };
            crate::peers::append_alone(peer, &dir, shape, commits)
        }
        #[cfg(feature = "clusters")]
        Command::Clusters(options) => clusters::clusters(&options),
        #[cfg(not(feature = "clusters"))]
        Command::Clusters { .. } => Err(Error::NotBuilt {
            what: "clusters of actors and gRPC",
            feature: "clusters",
        }),
        Command::Floor(Floor::Tcp(options)) => links::floors(Transport::Tcp, &options.traffic),
        Command::Floor(Floor::Shm(options)) => links::floors(Transport::Shm, &options.traffic),
        Command::Floor(Floor::Rdma(options)) => links::floors(Transport::Rdma, &options.traffic),
        Command::Floor(Floor::Journal(options)) => journal(&options, Sides::FloorAlone),
        Command::FarHalf { core } => core
            .map_or(Ok(()), cores::obey)
            .and_then(|()| far_half::far_half()),
        Command::AccountsHost => accounts::serve(),
        Command::Sweep => scratch::sweep(),
        Command::Tied {
            core,
            program,
            arguments,
        } => core
            .map_or(Ok(()), cores::obey)
            .and_then(|()| crate::tied::become_program(&program, &arguments)),
    }
}

/// Everything that this machine can run; what it cannot run is a note, never the end of the rest.
pub(crate) fn everything(options: &Everything) -> Result<(), Error> {
    place(&options.placement)?;
    let mut report = Report::begin(&options.output)?;
    let temporary = temporary_folder()?;
    for transport in [Transport::Tcp, Transport::Shm, Transport::Rdma] {
        for work in [Work::PingPong, Work::Stream] {
            let link = Link::plain(transport, work, options.wait, &options.device);
            match whole_row(&mut report, &link) {
                Ok(()) => {}
                Err(error @ (Error::DeviceNotNamed { .. } | Error::DeviceUnknown { .. })) => {
                    report
                        .table
                        .note(format!("no rows for {}: {error}", transport.name()));
                    break;
                }
                Err(error) => report.table.note(format!(
                    "no {} row for {}: {error}",
                    links::bench_name(work),
                    transport.name()
                )),
            }
        }
    }
    let pmem = options.dir.as_deref().unwrap_or(temporary.path());
    for (dir, mode) in [(pmem, Mode::Pmem), (temporary.path(), Mode::Buffered)] {
        let shape = Shape {
            size: EVENT,
            batch: 1,
            threads: 1,
        };
        if let Err(error) = report.journal(dir, mode, shape, EVERYTHING, Sides::Both) {
            report
                .table
                .note(format!("no {} row for the journal: {error}", mode.name()));
        }
    }
    report.end()
}

/// One link of the whole table; its floor alone where this build has nothing of ours for it.
fn whole_row(report: &mut Report, link: &Link<'_>) -> Result<(), Error> {
    let (subject, floor) = (link.subject(MESSAGE), link.floor(MESSAGE)?);
    match link.ours(MESSAGE) {
        Ok(ours) => report.both(&subject, ours, floor, EVERYTHING),
        Err(error @ Error::NotBuilt { .. }) => {
            report.floor_alone(&subject, floor, EVERYTHING).and(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Before the first child is started.
fn place(placement: &Placement) -> Result<(), Error> {
    if placement.pin {
        cores::pin_near_and_far()?;
    }
    Ok(())
}

fn journal(options: &Journal, sides: Sides) -> Result<(), Error> {
    let mut report = Report::begin(&options.output)?;
    let temporary = temporary_folder()?;
    let dir = options.dir.as_deref().unwrap_or(temporary.path());
    for &size in &options.size {
        report.journal(
            dir,
            options.mode,
            options.shape(size),
            options.extent.schedule(),
            sides,
        )?;
    }
    report.end()
}

fn accounts(options: &Accounts) -> Result<(), Error> {
    let device = device_for(options.transport, &options.device)?;
    let setup = ours::Setup::new(
        options.transport,
        accounts::MESSAGE_BYTES,
        options.wait,
        Load::ONE,
        RING,
        device,
    )?;
    let mut report = Report::begin(&options.output)?;
    let folder = match &options.dir {
        Some(dir) => Scratch::make_in(dir)?,
        None => temporary_folder()?,
    };
    let job = accounts::Job {
        setup,
        dir: folder.path().to_owned(),
        mode: options.mode,
        accounts: options.accounts,
        count: options.count,
        in_flight: options.in_flight as usize,
        kills: options.kill,
    };
    let subject = Subject {
        bench: "accounts",
        transport: options.transport.name().to_owned(),
        size: accounts::COMMAND_BYTES,
    };
    progress(&subject);
    let outturn = accounts::run(&job).map_err(|error| match error {
        Error::BooksDoNotBalance(_) | Error::WrongAnswer(_) => Error::JournalKept {
            source: Box::new(error),
            dir: folder.keep(),
        },
        error => error,
    })?;
    report.add(subject.measurements(&outturn.figures, None))?;
    report.table.note(format!(
        "the books balance: {} commands answered, {} events in the journal ({}), each command once; \
         {} kills, {} commands sent again; percentiles are of durable round trips, in full",
        options.count, outturn.events, outturn.mode, options.kill, outturn.sent_again
    ));
    report.end()
}

/// Every line as soon as it is there. An error when one is over its limit.
fn instructions(options: &Instructions) -> Result<(), Error> {
    let mut json = JsonLines::open(options.output.json.as_deref())?;
    let to_standard_output = json.to_standard_output();
    let say = |line: &dyn Display| show(&format!("{line}\n"), to_standard_output);
    say(&format_args!(
        "{:<28}{:>10}{:>10}",
        "instructions each", "", "limit"
    ))?;
    let mut over = 0;
    crate::instructions::count_all(&options.way, |count| {
        over += usize::from(!count.is_within());
        say(count)?;
        json.write(&count.subject().measurements(&count.figures(), None))
    })?;
    match over {
        0 => Ok(()),
        over => Err(Error::TooManyInstructions { over }),
    }
}

/// The device, for rdma.
fn device_for(transport: Transport, device: &Device) -> Result<Option<String>, Error> {
    match transport {
        Transport::Rdma => machine::rdma_device(device.name.as_deref()).map(Some),
        Transport::Tcp | Transport::Shm => Ok(None),
    }
}

/// A folder for a journal that goes away with its handle: on a disk if there is one, for what is written to a
/// file system in memory is never durable.
fn temporary_folder() -> Result<Scratch, Error> {
    const DISK: &str = "/var/tmp";
    let mut folder = std::env::temp_dir();
    if machine::in_memory(&folder) && Path::new(DISK).is_dir() {
        folder = DISK.into();
    }
    Scratch::make_in(&folder)
}

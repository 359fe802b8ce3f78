//! From a command to a report: which sides take turns, and what is said about those that cannot.

mod links;

use std::fmt::Display;
use std::io::IsTerminal;
use std::path::Path;

use crate::accounts;
use crate::carrier::Transport;
use crate::cli::{Accounts, Command, Device, Everything, Floor, Journal, Output, Placement, RING};
use crate::cores;
use crate::error::Error;
use crate::floor::journal::{JournalFloor, Mode, Shape};
use crate::load::Load;
use crate::machine::{self, Watch};
#[cfg(feature = "clusters")]
use crate::measure;
use crate::measure::{Amount, Schedule, Side, take_turns};
use crate::ours;
use crate::report::{self, JsonLines, Measurement, Subject, Table};
use crate::scratch::{self, Scratch};
use crate::two_process::Work;
use links::Link;

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
        Command::Journal(options) if options.peers => peers(&options),
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
        Command::Instructions(options) => instructions(&options.output),
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
        Command::Clusters(options) => clusters(&options),
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
            .and_then(|()| crate::two_process::serve()),
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
            match report.link(&link) {
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

/// Our journal and other durable logs, taking turns.
#[cfg(feature = "journal-peers")]
fn peers(options: &Journal) -> Result<(), Error> {
    use crate::peers::{Peer, ROWS, per_commit};

    let mut report = Report::begin(&options.output)?;
    let temporary = temporary_folder()?;
    let dir = options.dir.as_deref().unwrap_or(temporary.path());
    if machine::in_memory(dir) {
        report.table.note(format!(
            "{} is in memory: nothing there outlives the machine",
            dir.display()
        ));
    }
    for &size in &options.size {
        for (bench, threads, batch) in ROWS {
            let shape = Shape { size, batch, threads };
            let subject = |peer: Peer| Subject {
                bench,
                transport: peer.name().to_owned(),
                size,
            };
            progress(&subject(Peer::PmemJournal));
            let mut sides = Vec::new();
            for peer in Peer::ALL {
                sides.push(peer.side(dir, shape)?);
            }
            let mut turns: Vec<&mut dyn Side> = sides.iter_mut().map(|side| side as _).collect();
            let medians = take_turns(&mut turns, options.extent.schedule())?;
            drop(sides);
            report.add(subject(Peer::PmemJournal).measurements(&medians[0], None))?;
            for (peer, figures) in Peer::ALL.iter().zip(&medians).skip(1) {
                report.add(subject(*peer).measurements(&medians[0], Some(figures)))?;
            }
            let mut syncs = Vec::new();
            for peer in Peer::ALL {
                match per_commit(peer, dir, shape) {
                    Ok(count) => syncs.push(format!("{} {count:.2}", peer.name())),
                    Err(error @ Error::StraceMissing) => {
                        syncs = vec![error.to_string()];
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            report
                .table
                .note(format!("{bench}, syncs for each commit: {}", syncs.join(", ")));
        }
    }
    report.table.note(
        "the figures are ours, the floor is the log named in the row: a ratio of events above 1 says that we are faster; \
         8 writers share syncs where a log can, so there is less than one for each commit",
    );
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
fn instructions(output: &Output) -> Result<(), Error> {
    let mut json = JsonLines::open(output.json.as_deref())?;
    let to_standard_output = json.to_standard_output();
    let say = |line: &dyn Display| show(&format!("{line}\n"), to_standard_output);
    say(&format_args!(
        "{:<28}{:>10}{:>10}",
        "instructions each", "", "limit"
    ))?;
    let mut over = 0;
    crate::instructions::count_all(|count| {
        over += usize::from(!count.is_within());
        say(count)?;
        json.write(&count.subject().measurements(&count.figures(), None))
    })?;
    match over {
        0 => Ok(()),
        over => Err(Error::TooManyInstructions { over }),
    }
}

/// Each application on its own transport and on each of ours, taking turns.
#[cfg(feature = "clusters")]
fn clusters(options: &crate::cli::Clusters) -> Result<(), Error> {
    use crate::clusters::{Over, side};

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

/// Whether ours is measured too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    Both,
    FloorAlone,
}

/// A report in the making.
struct Report {
    watch: Watch,
    json: JsonLines,
    table: Table,
}

impl Report {
    fn begin(output: &Output) -> Result<Report, Error> {
        let json = JsonLines::open(output.json.as_deref())?;
        Ok(Report {
            watch: Watch::begin(),
            json,
            table: Table::default(),
        })
    }

    /// One link of the whole table; its floor alone where this build has nothing of ours for it.
    fn link(&mut self, link: &Link<'_>) -> Result<(), Error> {
        let (subject, floor) = (link.subject(MESSAGE), link.floor(MESSAGE)?);
        match link.ours(MESSAGE) {
            Ok(ours) => self.both(&subject, ours, floor, EVERYTHING),
            Err(error @ Error::NotBuilt { .. }) => {
                self.floor_alone(&subject, floor, EVERYTHING).and(Err(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets both sides take turns and reports ours beside the floor.
    fn both(
        &mut self,
        subject: &Subject,
        mut ours: Box<dyn Side>,
        mut floor: Box<dyn Side>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        progress(subject);
        let medians = take_turns(&mut [&mut *floor, &mut *ours], schedule)?;
        self.add(subject.measurements(&medians[1], Some(&medians[0])))
    }

    /// Reports a floor for itself, under a name that nobody takes for ours.
    fn floor_alone(
        &mut self,
        subject: &Subject,
        floor: Box<dyn Side>,
        schedule: Schedule,
    ) -> Result<(), Error> {
        let subject = Subject {
            transport: format!("floor-{}", subject.transport),
            ..subject.clone()
        };
        self.alone(&subject, floor, schedule)
    }

    /// Reports one side for itself.
    fn alone(&mut self, subject: &Subject, mut side: Box<dyn Side>, schedule: Schedule) -> Result<(), Error> {
        progress(subject);
        let medians = take_turns(&mut [&mut *side], schedule)?;
        self.add(subject.measurements(&medians[0], None))
    }

    fn journal(
        &mut self,
        dir: &Path,
        mode: Mode,
        shape: Shape,
        schedule: Schedule,
        sides: Sides,
    ) -> Result<(), Error> {
        if machine::in_memory(dir) && mode != Mode::Volatile {
            self.table.note(format!(
                "{} is in memory: nothing there outlives the machine",
                dir.display()
            ));
        }
        let floor = JournalFloor::open(dir, mode, shape)?;
        let mode = floor.mode();
        let subject = Subject {
            bench: "journal",
            transport: mode.name().to_owned(),
            size: shape.size,
        };
        match sides {
            Sides::FloorAlone => self.floor_alone(&subject, Box::new(floor), schedule),
            Sides::Both => self.both(
                &subject,
                ours::journal(dir, mode, shape)?,
                Box::new(floor),
                schedule,
            ),
        }
    }

    fn add(&mut self, measurements: Vec<Measurement>) -> Result<(), Error> {
        self.json.write(&measurements)?;
        self.table.add(measurements);
        Ok(())
    }

    /// Prints the table.
    fn end(self) -> Result<(), Error> {
        let text = format!("{}\n\n{}", self.watch.describe(), self.table);
        show(&text, self.json.to_standard_output())
    }
}

/// Shows people `text`, out of the way of JSON lines that go to the standard output.
fn show(text: &str, json_to_standard_output: bool) -> Result<(), Error> {
    if json_to_standard_output {
        report::remark(text);
        Ok(())
    } else {
        report::print(text)
    }
}

/// Tells a person who watches what is being measured.
fn progress(subject: &Subject) {
    if std::io::stderr().is_terminal() {
        report::remark(&format!(
            "measuring {} {} {} B\n",
            subject.bench, subject.transport, subject.size
        ));
    }
}

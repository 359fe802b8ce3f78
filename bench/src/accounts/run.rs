//! A run of the job: issue commands, kill the accounts' process now and then, and compare the books at the end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use transport::{Address, Node, Timing};

use super::process::HostProcess;
use super::recorded::recorded;
use super::service::{ANSWERS, COMMANDS, Task};
use super::{Client, Command, Outcome, audit};
use crate::clock;
use crate::error::{Error, failed};
use crate::floor::journal::Mode;
use crate::measure::{Figures, Laps, Metric};
use crate::ours::{Inbox, Setup};
use crate::wait::{Gone, STALLED_AFTER};

/// The commands are the same in every run.
const SEED: u64 = 0x5eed;
/// A kill comes so long after commands were sent, at most; each kill at another moment.
const LATEST_KILL: Duration = Duration::from_micros(400);

/// What to do.
pub(crate) struct Job {
    pub(crate) setup: Setup,
    pub(crate) dir: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) accounts: u32,
    pub(crate) count: u64,
    pub(crate) in_flight: usize,
    pub(crate) kills: u32,
}

/// What came of it. The books balance, or there is none.
#[derive(Debug)]
pub(crate) struct Outturn {
    pub(crate) figures: Figures,
    pub(crate) mode: String,
    pub(crate) events: u64,
    /// Commands that were sent again after a kill.
    pub(crate) sent_again: u64,
}

/// Bytes of a command, as reported.
pub(crate) const COMMAND_BYTES: usize = super::wire::COMMAND;

/// Bytes that any message of the job fits in.
pub(crate) const MESSAGE_BYTES: usize = if super::wire::COMMAND > super::wire::ANSWER {
    super::wire::COMMAND
} else {
    super::wire::ANSWER
};

/// Runs the job and audits it.
///
/// # Errors
/// The books do not balance, the accounts' process ended by itself, or nothing moves any more.
pub(crate) fn run(job: &Job) -> Result<Outturn, Error> {
    let mut task = Task {
        setup: job.setup.clone(),
        listen: job.setup.listen().to_owned(),
        dir: job.dir.clone(),
        mode: job.mode,
    };
    let mut host = HostProcess::start(&task)?;
    let mut desk = Desk::open(job)?;
    desk.connect(&host.ready.address)?;

    let began = Instant::now();
    let mut kills = 0;
    while desk.answered < job.count {
        desk.issue(job)?;
        if kills < job.kills && desk.answered >= kill_at(job, kills) {
            std::thread::sleep(LATEST_KILL * kills / job.kills);
            let address = host.ready.address.clone();
            host.kill()?;
            kills += 1;
            // Every other time under the address it had.
            task.listen = if kills % 2 == 1 {
                address
            } else {
                job.setup.listen().to_owned()
            };
            host = HostProcess::start(&task)?;
            desk.connect(&host.ready.address)?;
            desk.send_again()?;
        } else {
            desk.take_answers(host.gone()).map_err(|error| match error {
                Error::PeerGone => Error::AccountsEnded,
                error => error,
            })?;
        }
    }
    let elapsed = began.elapsed();
    let mode = host.ready.mode.clone();
    host.end()?;

    let events = check(&job.dir, &desk.client)?;
    let mut figures = desk.round_trips.percentiles(1);
    figures.insert(
        Metric::CommandsPerSecond,
        job.count as f64 / elapsed.as_secs_f64().max(1e-9),
    );
    Ok(Outturn {
        figures,
        mode,
        events,
        sent_again: desk.sent_again,
    })
}

/// Kills are spread evenly over the commands.
fn kill_at(job: &Job, kills: u32) -> u64 {
    job.count * u64::from(kills + 1) / u64::from(job.kills + 1)
}

fn check(dir: &Path, client: &Client) -> Result<u64, Error> {
    let reader = pmem_journal::Reader::open(dir).map_err(failed("opening the accounts' journal"))?;
    let replay = reader
        .replay(0)
        .map_err(failed("reading the accounts' journal"))?;
    let events = recorded(replay).collect::<Result<Vec<_>, Error>>()?;
    audit(client, events).map_err(Error::BooksDoNotBalance)
}

/// The client's end: its node, and what it has on its way.
struct Desk {
    client: Client,
    commands: Option<Address>,
    peer: Option<transport::Peer>,
    inbox: Inbox,
    issued: u64,
    answered: u64,
    sent_again: u64,
    /// When each open command was issued, in ticks.
    since: HashMap<u64, u64>,
    round_trips: Laps,
    /// Last, so that the mailbox is closed before the node is.
    node: Node,
}

impl Desk {
    fn open(job: &Job) -> Result<Desk, Error> {
        let node = job
            .setup
            .node("client")?
            .timing(Timing::default())
            .start()
            .map_err(failed("starting the client's node"))?;
        let mailbox = job.setup.mailbox(&node, ANSWERS)?;
        Ok(Desk {
            client: Client::new(job.accounts, SEED),
            commands: None,
            peer: None,
            inbox: Inbox::new(mailbox, job.setup.wait),
            issued: 0,
            answered: 0,
            sent_again: 0,
            since: HashMap::new(),
            round_trips: Laps::new(),
            node,
        })
    }

    /// A new session, and the mailbox's address on it. What was left of the old session are dead letters.
    fn connect(&mut self, address: &str) -> Result<(), Error> {
        if let Some(old) = self.peer.take() {
            old.close(Duration::ZERO);
        }
        let peer = self
            .node
            .connect(address)
            .map_err(failed(format!("connecting to the accounts at {address}")))?;
        let commands = peer
            .address(COMMANDS)
            .map_err(failed("asking for the accounts' mailbox"))?;
        (self.commands, self.peer) = (Some(commands), Some(peer));
        Ok(())
    }

    /// Issues commands until enough are on their way.
    fn issue(&mut self, job: &Job) -> Result<(), Error> {
        while self.issued < job.count && self.since.len() < job.in_flight {
            let command = self.client.issue();
            self.issued += 1;
            self.since.insert(command.key, clock::ticks());
            self.send(command)?;
        }
        Ok(())
    }

    fn send_again(&mut self) -> Result<(), Error> {
        let open: Vec<Command> = self.client.open().copied().collect();
        for command in open {
            self.sent_again += 1;
            self.send(command)?;
        }
        Ok(())
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let commands = self.commands.as_ref().ok_or(Error::PeerGone)?;
        commands
            .send_timeout(&command.to_bytes(), None, STALLED_AFTER)
            .map_err(failed("sending a command"))
    }

    fn take_answers(&mut self, gone: &Gone) -> Result<(), Error> {
        let (client, since, round_trips) = (&mut self.client, &mut self.since, &mut self.round_trips);
        let (mut answered, mut wrong) = (0, None);
        self.inbox.take(gone, |message| {
            let Some((key, outcome)) = Outcome::from_bytes(message.payload) else {
                wrong = Some(Error::NotAnAnswer);
                return;
            };
            if let Err(answer) = client.answered(key, outcome) {
                wrong.get_or_insert(Error::WrongAnswer(answer));
            }
            // A second answer to a command that was sent twice counts no more.
            if let Some(issued) = since.remove(&key) {
                round_trips.add(clock::ticks().saturating_sub(issued));
                answered += 1;
            }
        })?;
        self.answered += answered;
        wrong.map_or(Ok(()), Err)
    }
}

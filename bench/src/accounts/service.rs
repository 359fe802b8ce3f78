//! The process that has the accounts: a journal, a node with a mailbox for commands, and nothing else that lasts.
//!
//! What arrives together is decided in order and appended as one batch; the answers go out once it is durable.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pmem_journal::{Expected, Journal, Options};
use serde::{Deserialize, Serialize};
use transport::{Address, Node, Peer, SendError, Timing};

use super::recorded::recorded;
use super::{Command, Decision, Event, Host, Outcome};
use crate::error::{Error, doing, failed};
use crate::floor::journal::Mode;
use crate::ours::{Inbox, Setup, required_mode};
use crate::report;
use crate::wait::Gone;

pub(super) const COMMANDS: &str = "commands";
pub(super) const ANSWERS: &str = "answers";
/// The type of the events in the journal.
const KIND: u16 = 1;

/// What the process is to do: one JSON line on its standard input, whose end is the process's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) setup: Setup,
    pub(super) listen: String,
    pub(super) dir: PathBuf,
    pub(super) mode: Mode,
}

/// What the process says on its standard output once it is ready: one JSON line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) address: String,
    /// The journal's mode.
    pub(super) mode: String,
    /// Events found in the journal.
    pub(super) events: u64,
}

/// The whole life of the process.
pub(crate) fn serve() -> Result<(), Error> {
    crate::tied::die_with_parent()?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(doing("reading the task"))?;
    let task: Task = serde_json::from_str(&line).map_err(|_| Error::NotAChild)?;
    let gone = Arc::new(Gone::new(false));
    std::thread::spawn({
        let gone = Arc::clone(&gone);
        move || {
            // Nothing more is ever sent: this returns at the end of the input.
            let _ = std::io::stdin().lock().read_line(&mut String::new());
            gone.store(true, Ordering::Relaxed);
        }
    });
    let mut service = Service::open(&task)?;
    let ready = service.ready()?;
    let line = serde_json::to_string(&ready).map_err(doing("saying that the accounts are ready"))?;
    report::print(&format!("{line}\n"))?;
    while !gone.load(Ordering::Relaxed) {
        match service.turn(&gone) {
            Err(Error::PeerGone) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    service.journal.close().map_err(failed("closing the journal"))
}

struct Service {
    host: Host,
    journal: Journal,
    events: u64,
    inbox: Inbox,
    /// Commands of one turn, and whom each came from.
    taken: Vec<(Peer, Command)>,
    made: Vec<Event>,
    answers: Vec<(Peer, u64, Outcome)>,
    /// The mailbox for answers, on the session that the last command came over.
    client: Option<Address>,
    /// Last, so that the mailbox is closed before the node is.
    node: Node,
}

impl Service {
    fn open(task: &Task) -> Result<Service, Error> {
        let mut options = Options::new();
        if let Some(mode) = required_mode(task.mode) {
            options = options.require(mode);
        }
        let (journal, _) =
            Journal::open_with(&task.dir, &options).map_err(failed("opening the accounts' journal"))?;
        let (mut host, mut events) = (Host::default(), 0);
        for event in recorded(
            journal
                .replay(0)
                .map_err(failed("reading the accounts' journal"))?,
        ) {
            host.apply(&event?);
            events += 1;
        }
        let node = task
            .setup
            .node("accounts")?
            .timing(Timing::default())
            .listen(&task.listen)
            .start()
            .map_err(failed("starting the accounts' node"))?;
        let mailbox = task.setup.mailbox(&node, COMMANDS)?;
        Ok(Service {
            host,
            journal,
            events,
            inbox: Inbox::new(mailbox, task.setup.wait),
            taken: Vec::new(),
            made: Vec::new(),
            answers: Vec::new(),
            client: None,
            node,
        })
    }

    fn ready(&self) -> Result<Ready, Error> {
        Ok(Ready {
            address: self.node.addresses().first().cloned().ok_or(Error::PeerGone)?,
            mode: self.journal.mode().mode.name().to_owned(),
            events: self.events,
        })
    }

    /// Takes what is there, makes it durable, answers.
    fn turn(&mut self, gone: &Gone) -> Result<(), Error> {
        let (taken, mut garbled) = (&mut self.taken, 0u64);
        self.inbox.take(gone, |message| {
            // A sender whose session is over learns nothing by an answer: it asks again over the next one.
            match (message.peer(), Command::from_bytes(message.payload)) {
                (Some(peer), Some(command)) => taken.push((peer, command)),
                (None, _) => {}
                (Some(_), None) => garbled += 1,
            }
        })?;
        if garbled > 0 {
            return Err(Error::NotACommand);
        }
        for (peer, command) in self.taken.drain(..) {
            let outcome = match self.host.decide(command) {
                Decision::Append(event) => {
                    // Applied before it is durable: if the append fails, this process ends and its state with it.
                    self.host.apply(&event);
                    self.made.push(event);
                    event.outcome
                }
                Decision::Answer(outcome) => outcome,
            };
            self.answers.push((peer, command.key, outcome));
        }
        self.append()?;
        self.answer()
    }

    fn append(&mut self) -> Result<(), Error> {
        if self.made.is_empty() {
            return Ok(());
        }
        let bytes: Vec<_> = self.made.iter().map(|event| event.to_bytes()).collect();
        let events: Vec<_> = self
            .made
            .iter()
            .zip(&bytes)
            .map(|(event, bytes)| {
                let account = u128::from(event.command.account);
                pmem_journal::Event::new(account, KIND, bytes).key(u128::from(event.command.key))
            })
            .collect();
        self.journal
            .append(&events, Expected::Any)
            .map_err(failed("appending to the accounts' journal"))?;
        self.made.clear();
        Ok(())
    }

    fn answer(&mut self) -> Result<(), Error> {
        for (peer, key, outcome) in std::mem::take(&mut self.answers) {
            let bytes = outcome.to_bytes(key);
            let known = self.client.take().map(|client| (client.send(&bytes), client));
            match known {
                Some((Ok(()), client)) => self.client = Some(client),
                None | Some((Err(SendError::SessionOver(_)), _)) => {
                    // Over again in the meantime: the client will ask again.
                    let Ok(client) = peer.address(ANSWERS) else {
                        continue;
                    };
                    if client.send(&bytes).is_ok() {
                        self.client = Some(client);
                    }
                }
                Some((Err(error), _)) => return Err(failed("answering a command")(error)),
            }
        }
        Ok(())
    }
}

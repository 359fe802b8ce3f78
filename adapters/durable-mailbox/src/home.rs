//! A node's durable mailboxes: which of them it owns, as its journal says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use pmem_journal::Journal;
use transport::{MailboxOptions, Node, Reference};

use crate::error::Error;
use crate::home_state::HomeState;
use crate::inbox::Inbox;
use crate::record::{Belongings, Record, Residence, apply, known_mailboxes};
use crate::residents::{Resident, Residents};
use crate::stand_in::StandIn;
use crate::wire::{HowFar, Talk};
use crate::{doubts, service};

/// The mailbox by which a home is known to others.
const HOME: &str = "durable-mailbox home";

/// The durable mailboxes of one node and one journal. Drop it before the node.
pub struct Home {
    pub(crate) state: Arc<HomeState>,
    arrivals: Mutex<Receiver<Inbox>>,
    threads: Vec<JoinHandle<()>>,
}

impl Home {
    /// Opens the home of the mailboxes that `journal` knows. `options` bound each mailbox while it is open: messages of up to
    /// `max_message` less 25 bytes; [`transport::Overflow::Wait`] is the policy to choose.
    ///
    /// # Errors
    /// [`Error::Journal`], [`Error::NotARecord`], [`Error::Node`], [`Error::Thread`].
    pub fn open(node: Arc<Node>, journal: Arc<Journal>, options: MailboxOptions) -> Result<Home, Error> {
        let known = known_mailboxes(&journal)?;
        let talk = node.typed_mailbox::<Talk>(
            HOME,
            MailboxOptions {
                max_message: transport::mailbox::MAX_MESSAGE,
                ..MailboxOptions::default()
            },
        )?;
        let (sender, arrivals) = channel();
        let state = Arc::new(HomeState {
            residents: Arc::new(Residents::new(node, journal)),
            options,
            arrivals: Mutex::new(sender),
            closed: AtomicBool::new(false),
        });
        for (name, known) in known {
            let answer = match &known.residence {
                Residence::Here | Residence::Unknown => None,
                Residence::Offered { .. } => Some(HowFar::NotNow),
                Residence::Elsewhere { at } => Some(HowFar::Moved(at.clone())),
            };
            let stand_in = match answer {
                Some(answer) => {
                    let mailbox = state.mailbox(&name, None)?;
                    Some(StandIn::start(&state.residents.node, mailbox, answer)?)
                }
                None => None,
            };
            let resident = Resident {
                known,
                open: false,
                stand_in,
                settling: false,
            };
            state.residents.lock().insert(name, resident);
        }
        let mut home = Home {
            state,
            arrivals: Mutex::new(arrivals),
            threads: Vec::new(),
        };
        home.spawn("home", move |state| service::run(state, talk))?;
        home.spawn("home doubts", doubts::run)?;
        Ok(home)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(&HomeState) + Send + 'static) -> Result<(), Error> {
        let state = self.state.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&state))
            .map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// How other homes reach this one: what [`Home::hand_over`] takes.
    pub fn reference(&self) -> Reference {
        self.state.reference(HOME)
    }

    /// How outboxes reach a mailbox of this home.
    pub fn mailbox(&self, name: &str) -> Reference {
        self.state.reference(name)
    }

    /// Opens a mailbox that this node owns, or that has never been anywhere: then this node owns it from now on. One name
    /// must be created on one node of the cluster alone.
    ///
    /// # Errors
    /// [`Error::LivesElsewhere`], [`Error::InDoubt`], [`Error::OwnedByAnother`], [`Error::AlreadyOpen`], [`Error::Node`],
    /// [`Error::Journal`].
    pub fn inbox(&self, name: &str) -> Result<Inbox, Error> {
        let state = &self.state;
        let mut residents = state.residents.lock();
        let resident = residents.entry(name.to_owned()).or_insert_with(Resident::nobody);
        if resident.open {
            return Err(Error::AlreadyOpen);
        }
        match &resident.known.residence {
            Residence::Here => {}
            Residence::Elsewhere { at } => {
                return Err(Error::LivesElsewhere {
                    at: at.clone().into(),
                });
            }
            Residence::Offered { to, .. } => {
                return Err(Error::InDoubt {
                    to: to.clone().into(),
                });
            }
            Residence::Unknown if resident.known.epoch > 0 => return Err(Error::OwnedByAnother),
            Residence::Unknown => {
                let record = Record::Here {
                    name: name.to_owned(),
                    epoch: 1,
                    belongings: Belongings::default(),
                };
                state.residents.record(name, &record)?;
                apply(&mut resident.known, record);
            }
        }
        let mailbox = state.mailbox(name, None)?;
        Ok(state.open(name, resident, mailbox))
    }

    /// The mailboxes that this node owns, open or not.
    pub fn owned(&self) -> Vec<String> {
        let residents = self.state.residents.lock();
        let owned = residents
            .iter()
            .filter(|(_, resident)| resident.known.residence == Residence::Here);
        owned.map(|(name, _)| name.clone()).collect()
    }

    /// Mailboxes that came to this node: handed over by another home, or back after a hand-over that was cut short.
    /// The next, if there is one within `timeout`.
    pub fn arrivals(&self, timeout: std::time::Duration) -> Option<Inbox> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.recv_timeout(timeout).ok()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let stand_ins: Vec<_> = self
            .state
            .residents
            .lock()
            .values_mut()
            .filter_map(|resident| resident.stand_in.take())
            .collect();
        for stand_in in stand_ins {
            drop(stand_in.stop());
        }
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home")
            .field("node", &self.state.residents.node.name())
            .field("owned", &self.owned())
            .finish()
    }
}

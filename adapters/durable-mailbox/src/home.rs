//! A node's durable mailboxes: which of them it owns, as its journal says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use pmem_journal::{Event, Expected, Journal};
use transport::{MailboxOptions, Node, Reference};

use crate::error::Error;
use crate::inbox::{Inbox, Parts};
use crate::record::{Belongings, KIND, Known, Record, Residence, known_mailboxes, mailbox_entity};
use crate::stand_in::StandIn;
use crate::wire::{HowFar, Packets, Talk};
use crate::{doubts, service};

/// The mailbox by which a home is known to others.
const HOME: &str = "durable-mailbox home";

/// The durable mailboxes of one node and one journal. Drop it before the node.
pub struct Home {
    pub(crate) inner: Arc<Inner>,
    arrivals: Mutex<Receiver<Inbox>>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Resident {
    /// Without the belongings while the mailbox is open: then its inbox has them.
    pub(crate) known: Known,
    pub(crate) open: bool,
    pub(crate) stand_in: Option<StandIn>,
    /// A thread is finding out who owns it.
    pub(crate) settling: bool,
}

pub(crate) struct Inner {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) options: MailboxOptions,
    residents: Mutex<HashMap<String, Resident>>,
    pub(crate) arrivals: Mutex<Sender<Inbox>>,
    pub(crate) closed: AtomicBool,
}

impl Inner {
    pub(crate) fn residents(&self) -> MutexGuard<'_, HashMap<String, Resident>> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change of ownership durable.
    pub(crate) fn record(&self, name: &str, record: &Record<'_>) -> Result<(), Error> {
        let bytes = record.to_bytes();
        let event = Event::new(mailbox_entity(name), KIND, &bytes);
        self.journal.append(&[event], Expected::Any)?;
        Ok(())
    }

    /// How others reach a mailbox of this node.
    pub(crate) fn reference(&self, mailbox: &str) -> Reference {
        Reference {
            node: self.node.name().to_owned(),
            addresses: self.node.addresses().to_vec(),
            mailbox: mailbox.to_owned(),
        }
    }

    /// The node's mailbox of this name: from the one who stands in for it, or opened.
    pub(crate) fn mailbox(
        &self,
        name: &str,
        stand_in: Option<StandIn>,
    ) -> Result<transport::typed::Mailbox<Packets>, Error> {
        match stand_in.and_then(StandIn::stop) {
            Some(mailbox) => Ok(mailbox),
            None => Ok(self.node.typed_mailbox::<Packets>(name, self.options)?),
        }
    }

    pub(crate) fn put_back(&self, name: &str, belongings: Belongings) {
        if let Some(resident) = self.residents().get_mut(name) {
            resident.known.belongings = belongings;
            resident.open = false;
        }
    }

    pub(crate) fn arrive(&self, inbox: Inbox) {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        // When nobody listens the inbox is dropped: closed here, and owned here still.
        let _ = arrivals.send(inbox);
    }
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
        let inner = Arc::new(Inner {
            node,
            journal,
            options,
            residents: Mutex::default(),
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
                    let mailbox = inner.mailbox(&name, None)?;
                    Some(StandIn::start(&inner.node, mailbox, answer)?)
                }
                None => None,
            };
            let resident = Resident {
                known,
                open: false,
                stand_in,
                settling: false,
            };
            inner.residents().insert(name, resident);
        }
        let mut home = Home {
            inner,
            arrivals: Mutex::new(arrivals),
            threads: Vec::new(),
        };
        home.spawn("home", move |inner| service::run(inner, talk))?;
        home.spawn("home doubts", doubts::run)?;
        Ok(home)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(&Arc<Inner>) + Send + 'static) -> Result<(), Error> {
        let inner = self.inner.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&inner))
            .map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// How other homes reach this one: what [`Home::hand_over`] takes.
    pub fn reference(&self) -> Reference {
        self.inner.reference(HOME)
    }

    /// How outboxes reach a mailbox of this home.
    pub fn mailbox(&self, name: &str) -> Reference {
        self.inner.reference(name)
    }

    /// Opens a mailbox that this node owns, or that has never been anywhere: then this node owns it from now on. One name
    /// must be created on one node of the cluster alone.
    ///
    /// # Errors
    /// [`Error::LivesElsewhere`], [`Error::InDoubt`], [`Error::OwnedByAnother`], [`Error::AlreadyOpen`], [`Error::Node`],
    /// [`Error::Journal`].
    pub fn inbox(&self, name: &str) -> Result<Inbox, Error> {
        let inner = &self.inner;
        let mut residents = inner.residents();
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
                inner.record(name, &record)?;
                crate::record::apply(&mut resident.known, record);
            }
        }
        let mailbox = inner.mailbox(name, None)?;
        let belongings = std::mem::take(&mut resident.known.belongings);
        resident.open = true;
        let parts = Parts { mailbox, belongings };
        Ok(Inbox::new(inner.clone(), name, parts))
    }

    /// The mailboxes that this node owns, open or not.
    pub fn owned(&self) -> Vec<String> {
        let residents = self.inner.residents();
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

impl Resident {
    pub(crate) fn nobody() -> Resident {
        Resident {
            known: Known::nothing(),
            open: false,
            stand_in: None,
            settling: false,
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let stand_ins: Vec<_> = self
            .inner
            .residents()
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
            .field("node", &self.inner.node.name())
            .field("owned", &self.owned())
            .finish()
    }
}

//! A host: one place where a node runs, crashes, and is started again.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::connection::Medium;
use super::links::{SimTransport, scheme};
use super::surroundings::Simulated;
use super::world::SharedWorld;
use crate::connect::ConnectError;
use crate::peer::PeerInner;
use crate::random::Random;
use crate::session::{Time, Timing};
use crate::wait::{Wait, lock};
use crate::{
    Address, DeadLetter, Drive, Event, LaneSizes, Mailbox, MailboxOptions, Node, Overflow, Peer, ResolveError,
};

/// The times that every node of a history has.
pub(super) const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(8),
    silence: Duration::from_millis(32),
    resume_window: Duration::from_millis(80),
    better_link: Duration::from_millis(15),
};

pub(super) type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Looks whether a task is done.
pub(super) fn poll<T>(task: &mut Task<T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// What is the same for a host in all its lives.
pub(super) struct Host {
    pub(super) index: usize,
    sizes: LaneSizes,
    refused_window: Option<Duration>,
    inboxes: Vec<MailboxOptions>,
    pub(super) life: Option<Life>,
    /// It stands still until then.
    pub(super) still_until: Time,
    /// It is started again then.
    pub(super) back_at: Time,
}

/// A node between start and crash.
pub(super) struct Life {
    pub(super) number: u32,
    pub(super) node: Node,
    pub(super) letters: Receiver<DeadLetter>,
    pub(super) events: Receiver<Event>,
    pub(super) inboxes: Vec<Inbox>,
    /// The sessions that this life has, by its own account.
    pub(super) correspondences: Vec<Correspondence>,
    /// The hosts that this one dials.
    pub(super) dials: Vec<Dial>,
    /// Since when each node is linked, by its events.
    pub(super) linked: HashMap<String, Time>,
}

/// A mailbox and the actor behind it.
pub(super) struct Inbox {
    pub(super) mailbox: Mailbox,
    pub(super) options: MailboxOptions,
    /// Counts how often it was opened.
    pub(super) opening: u32,
}

/// A session as the actors see it.
pub(super) struct Correspondence {
    pub(super) peer: Peer,
    pub(super) host: usize,
    pub(super) routes: Vec<Route>,
    /// It is being closed in good order, with patience until then.
    pub(super) closing_until: Option<Time>,
}

/// The way to one mailbox of the peer.
#[derive(Default)]
pub(super) struct Route {
    pub(super) address: Option<Address>,
    pub(super) resolving: Option<Task<Result<Address, ResolveError>>>,
    pub(super) sequence: u32,
}

/// A host that this one keeps a session with.
pub(super) struct Dial {
    pub(super) host: usize,
    pub(super) addresses: Vec<String>,
    pub(super) not_before: Time,
    pub(super) dialling: Option<Task<Result<Arc<PeerInner>, ConnectError>>>,
    pub(super) peer: Option<Peer>,
}

pub(super) fn name(host: usize) -> String {
    format!("host{host}")
}

pub(super) fn inbox_name(inbox: usize) -> String {
    format!("inbox{inbox}")
}

impl Host {
    pub(super) fn draw(index: usize, random: &mut Random) -> Host {
        let ring = |random: &mut Random| *random.pick(&[4 << 10, 4 << 10, 16 << 10]);
        let policies = [
            Overflow::Wait,
            Overflow::Fail,
            Overflow::DropNewest,
            Overflow::DropOldest,
        ];
        let inboxes = (0..random.between(1, 3)).map(|_| MailboxOptions {
            capacity: *random.pick(&[1, 2, 5, 30]),
            max_message: 3_000,
            overflow: *random.pick(&policies),
        });
        let inboxes = inboxes.collect();
        let windows = [None, Some(1), Some(10), Some(30)];
        Host {
            refused_window: random.pick(&windows).map(Duration::from_millis),
            inboxes,
            index,
            sizes: LaneSizes {
                control: 4 << 10,
                ordinary: ring(random),
                large: ring(random),
            },
            life: None,
            still_until: Time::ZERO,
            back_at: Time::ZERO,
        }
    }

    pub(super) fn inboxes(&self) -> usize {
        self.inboxes.len()
    }

    /// Starts the node.
    pub(super) fn start(&mut self, number: u32, world: &SharedWorld, dials: Vec<Dial>) {
        let transport = |medium| SimTransport {
            world: world.clone(),
            host: self.index,
            medium,
        };
        let at = |medium| format!("{}://{}", scheme(medium), name(self.index));
        let surroundings = Simulated {
            world: world.clone(),
            host: self.index,
            started: lock(world).now,
            patience: TIMING.resume_window,
        };
        let node = Node::builder(&name(self.index))
            .secret(b"the secret of all simulated nodes")
            .transport(transport(Medium::Writes))
            .transport(transport(Medium::Stream))
            .listen(&at(Medium::Writes))
            .listen(&at(Medium::Stream))
            .rings(self.sizes)
            .timing(TIMING)
            .refused_window(self.refused_window)
            .wait(Wait::Spin)
            .drive(Drive::Caller)
            .max_peers(NonZeroUsize::new(16).expect("16 is not 0"))
            .start_in(Arc::new(surroundings))
            .expect("a simulated node starts");
        let open = |(inbox, options): (usize, &MailboxOptions)| Inbox {
            mailbox: node
                .mailbox(&inbox_name(inbox), *options)
                .expect("the mailbox opens"),
            options: *options,
            opening: 0,
        };
        let inboxes = self.inboxes.iter().enumerate().map(open).collect();
        self.life = Some(Life {
            number,
            letters: node.dead_letters().subscribe(2_000),
            events: node.events(1_000),
            inboxes,
            correspondences: Vec::new(),
            dials,
            linked: HashMap::new(),
            node,
        });
    }
}

impl Dial {
    pub(super) fn new(host: usize, addresses: Vec<String>) -> Dial {
        Dial {
            host,
            addresses,
            not_before: Time::ZERO,
            dialling: None,
            peer: None,
        }
    }
}

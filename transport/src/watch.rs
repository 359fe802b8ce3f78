//! Watching: a mailbox learns once that another mailbox, or a node, is gone.
//!
//! The news is a message of the watcher's own, made when it is due and put into the watching mailbox behind everything that
//! came from there before: whoever reads it has read the last message that the other side sent over this session. It takes
//! no room of the mailbox's capacity.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::address::{Address, Target};
use crate::mailbox::{Mailbox, MailboxShared};
use crate::peer::{Peer, PeerInner};
use crate::session::Ended;
use crate::wait::lock;

/// What is gone, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The mailbox was closed by its owner.
    MailboxClosed,
    /// The session with its node is over; the node may be gone, restarted, or out of reach.
    SessionOver(Ended),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gone::MailboxClosed => f.write_str("mailbox closed"),
            Gone::SessionOver(ended) => write!(f, "session over: {ended}"),
        }
    }
}

type Notice = Box<dyn FnOnce(&Gone) -> Vec<u8> + Send>;

struct Watcher {
    number: u64,
    mailbox: Weak<MailboxShared>,
    notice: Notice,
}

impl Watcher {
    fn tell(self, gone: &Gone) {
        if let Some(mailbox) = self.mailbox.upgrade() {
            let notice = {
                let _making = MakingANotice::begin();
                (self.notice)(gone)
            };
            mailbox.put(&notice);
        }
    }
}

thread_local! {
    static MAKING_A_NOTICE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is in code of others that makes a notice: it may hold locks of their node.
pub(crate) fn is_making_a_notice() -> bool {
    MAKING_A_NOTICE.get()
}

/// A notice is being made, until this is dropped.
struct MakingANotice {
    within_another: bool,
}

impl MakingANotice {
    fn begin() -> MakingANotice {
        MakingANotice {
            within_another: MAKING_A_NOTICE.replace(true),
        }
    }
}

impl Drop for MakingANotice {
    fn drop(&mut self) {
        MAKING_A_NOTICE.set(self.within_another);
    }
}

/// Those who watch one thing.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    gone: Option<Gone>,
    watchers: Vec<Watcher>,
}

impl Watchers {
    fn add(&self, watcher: Watcher) {
        let mut watched = lock(&self.0);
        match watched.gone.clone() {
            Some(gone) => {
                drop(watched);
                watcher.tell(&gone);
            }
            None => watched.watchers.push(watcher),
        }
    }

    fn remove(&self, number: u64) -> bool {
        let mut watched = lock(&self.0);
        let before = watched.watchers.len();
        watched.watchers.retain(|watcher| watcher.number != number);
        watched.watchers.len() < before
    }

    /// Tells everybody who watches, once. The first reason stands, also for those who come later.
    pub(crate) fn tell(&self, gone: &Gone) {
        let told = {
            let mut watched = lock(&self.0);
            watched.gone.get_or_insert_with(|| gone.clone());
            std::mem::take(&mut watched.watchers)
        };
        for watcher in told {
            watcher.tell(gone);
        }
    }
}

enum On {
    Address(Target),
    Node(Arc<PeerInner>),
}

impl On {
    fn watchers(&self) -> &Watchers {
        match self {
            On::Address(Target::Remote(route)) => &route.watchers,
            On::Address(Target::Local(mailbox, _)) => &mailbox.watchers,
            On::Node(peer) => &peer.watchers,
        }
    }
}

/// A watch that was set up. Dropping it changes nothing: the notice still comes.
pub struct Watch {
    number: u64,
    on: On,
}

impl Watch {
    /// Gives the watch up. Whether that was in time: otherwise the notice is in the mailbox, or about to be.
    pub fn cancel(self) -> bool {
        self.on.watchers().remove(self.number)
    }
}

impl Mailbox {
    /// Learns here, once, that the mailbox behind `address` is gone: `notice` makes the message that is then put into this
    /// mailbox, behind the last message that came over the session before. If it is gone already, that is now.
    ///
    /// `notice` may run on the node's thread: it must not block.
    pub fn watch(&self, address: &Address, notice: impl FnOnce(&Gone) -> Vec<u8> + Send + 'static) -> Watch {
        self.watch_on(On::Address(address.target.clone()), Box::new(notice))
    }

    /// As [`Mailbox::watch`], for a node: its session is over. A session that lost its link is not over yet.
    pub fn watch_node(&self, peer: &Peer, notice: impl FnOnce(&Gone) -> Vec<u8> + Send + 'static) -> Watch {
        self.watch_on(On::Node(peer.0.clone()), Box::new(notice))
    }

    fn watch_on(&self, on: On, notice: Notice) -> Watch {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        on.watchers().add(Watcher {
            number,
            mailbox: Arc::downgrade(&self.shared),
            notice,
        });
        Watch { number, on }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

//! Handles: the numbers by which a peer's messages reach this node's mailboxes, and how they come back when mailboxes are
//! closed. See `docs/PROTOCOL.md`, "Handles".

use std::sync::Arc;

use super::PeerInner;
use super::receiving::Receive;
use crate::breakage::{Breakage, is_broken};
use crate::control::Control;
use crate::dispatch::MAX_PORTS;
use crate::handshake::CAPABILITY_FORGETTING;
use crate::lane::Lane;
use crate::mailbox::{MailboxShared, Port};
use crate::ring::Position;

/// The mailboxes that a peer may send to, by handle.
#[derive(Default)]
pub(crate) struct Handles {
    ports: Vec<Option<Arc<Port>>>,
    /// The peer sends nothing more to these; something may still be under way.
    forgetting: Vec<Forgetting>,
    /// The peer is told that these are forgotten, and may not have heard it yet.
    told: Vec<Told>,
    /// May be given out again.
    free: Vec<u16>,
}

struct Forgetting {
    handle: u16,
    /// What was sent to the handle lies below.
    ordinary: Position,
    large: Position,
}

struct Told {
    handle: u16,
    /// Where in the control ring; not known while that waits for room.
    until: Option<Position>,
}

impl Handles {
    /// The mailbox behind a handle.
    #[inline]
    pub(crate) fn get(&self, handle: u16) -> Option<&Arc<Port>> {
        self.ports.get(usize::from(handle))?.as_ref()
    }

    /// Whether there is no handle left.
    pub(crate) fn are_used_up(&self) -> bool {
        self.free.is_empty() && self.ports.len() >= MAX_PORTS
    }

    /// Gives out a handle for the port that `open` makes of it.
    pub(crate) fn give(&mut self, open: impl FnOnce(u16) -> Option<Arc<Port>>) -> Option<Arc<Port>> {
        if self.are_used_up() {
            return None;
        }
        let handle = self.free.last().copied().unwrap_or(self.ports.len() as u16);
        let port = open(handle)?;
        match self.free.pop() {
            Some(handle) => self.ports[usize::from(handle)] = Some(port.clone()),
            None => self.ports.push(Some(port.clone())),
        }
        Some(port)
    }

    /// The peer sends nothing more to the handle of a closed mailbox.
    pub(crate) fn forget(&mut self, handle: u32, ordinary: Position, large: Position) -> Result<(), String> {
        let known = u16::try_from(handle)
            .ok()
            .filter(|handle| self.get(*handle).is_some_and(|port| port.mailbox.is_closed()))
            .filter(|handle| !self.is_forgetting(*handle));
        let Some(handle) = known else {
            return Err(format!(
                "forgets handle {handle}, which is not that of a closed mailbox"
            ));
        };
        self.forgetting.push(Forgetting {
            handle,
            ordinary,
            large,
        });
        Ok(())
    }

    /// Whether a handle is given out for this mailbox, and the peer has not said that it sends nothing more there.
    pub(crate) fn are_still_for(&self, handle: u16, mailbox: &Arc<MailboxShared>) -> bool {
        self.get(handle)
            .is_some_and(|port| Arc::ptr_eq(&port.mailbox, mailbox))
            && !self.is_forgetting(handle)
    }

    fn is_forgetting(&self, handle: u16) -> bool {
        self.forgetting.iter().any(|other| other.handle == handle)
    }

    /// How many are given out.
    #[cfg(feature = "conformance")]
    pub(crate) fn given(&self) -> usize {
        self.ports.iter().flatten().count()
    }

    pub(crate) fn any_forgetting(&self) -> bool {
        !self.forgetting.is_empty()
    }

    /// All ports, at the end of the session.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Port>> {
        std::mem::take(self).ports.into_iter().flatten()
    }
}

impl PeerInner {
    /// Whether the peer forgets handles of closed mailboxes; otherwise they stay as long as the session lives.
    pub(super) fn forgets_handles(&self) -> bool {
        self.identity.capabilities & CAPABILITY_FORGETTING != 0
    }

    /// Forgets the handles to which nothing more is under way, and says so.
    #[cold]
    pub(crate) fn forget_handles(&self, receive: &mut Receive) {
        let ordinary = receive.lanes.ring(Lane::Ordinary).consumed();
        let large = receive.lanes.ring(Lane::Large).consumed();
        let hurried = is_broken(Breakage::ForgetsHandlesTooEarly);
        let Handles {
            ports,
            forgetting,
            told,
            ..
        } = &mut receive.handles;
        let due = |it: &mut Forgetting| hurried || it.ordinary <= ordinary && it.large <= large;
        for Forgetting {
            handle,
            ordinary,
            large,
        } in forgetting.extract_if(.., due)
        {
            ports[usize::from(handle)] = None;
            self.send_control(&Control::Forgotten {
                handle: u32::from(handle),
                ordinary,
                large,
            });
            told.push(Told { handle, until: None });
        }
        self.free_handles(&mut receive.handles);
    }

    /// Frees the handles that the peer has heard to be forgotten: it may be told the same numbers again in any lane.
    pub(crate) fn free_handles(&self, handles: &mut Handles) {
        let Handles { told, free, .. } = handles;
        if told.is_empty() {
            return;
        }
        let control = self.send.ring(Lane::Control);
        if !self.is_backlogged() {
            let claimed = control.claimed();
            told.iter_mut().for_each(|told| {
                told.until.get_or_insert(claimed);
            });
        }
        let heard = control.released();
        let is_heard = |told: &mut Told| told.until.is_some_and(|until| until <= heard);
        free.extend(told.extract_if(.., is_heard).map(|told| told.handle));
    }

    /// Tells the peer that nothing more will be sent to the handle of a mailbox that it has closed.
    pub(crate) fn forget(&self, handle: u16) {
        if self.ended.get().is_some() {
            return;
        }
        // In turn: this may be anywhere, also where the peer's locks are held.
        self.send_control_in_turn(&Control::Forget {
            handle: u32::from(handle),
            ordinary: self.send.ring(Lane::Ordinary).claimed(),
            large: self.send.ring(Lane::Large).claimed(),
        });
    }
}

//! Streams that this node has asked the peer for: whether somebody listens there, and what becomes of the handles that were
//! granted with the request. See `docs/PROTOCOL.md`, "Streams" and "Handles".

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use super::PeerInner;
use super::receiving::Receive;
use crate::mailbox::MailboxShared;
use crate::stream::LISTENER;
use crate::wait::lock;

/// By correlation id. Gone when the peer has nobody who listens.
pub(super) type Openings = HashMap<u64, Opening>;

pub(super) enum Opening {
    /// Somebody waits for the answer.
    Waiting(Option<Waker>),
    /// Nobody does any more. These handles were granted with it: the peer forgets them, unless the request does not reach it.
    GivenUp(Vec<u16>),
}

impl PeerInner {
    /// The peer is about to be asked for a stream.
    pub(crate) fn begin_opening(&self, request: u64) {
        lock(&self.openings).insert(request, Opening::Waiting(None));
    }

    /// Leaves the waker to be woken if nobody listens at the peer. False when that is known already.
    pub(crate) fn await_opening(&self, request: u64, waker: &Waker) -> bool {
        match lock(&self.openings).get_mut(&request) {
            Some(opening) => {
                *opening = Opening::Waiting(Some(waker.clone()));
                true
            }
            None => false,
        }
    }

    /// The peer has answered.
    pub(crate) fn opened(&self, request: u64) {
        lock(&self.openings).remove(&request);
    }

    /// Nobody waits for the answer any more, and the mailboxes that were granted with the request are closed. What the peer does
    /// not read it can't forget: such handles are taken back.
    pub(crate) fn give_up_opening(&self, request: u64, granted: &[(u16, Arc<MailboxShared>)], sent: bool) {
        let mut receive = self.receive_side();
        let mut openings = lock(&self.openings);
        let may_be_read = openings.remove(&request).is_some() && sent;
        let open: Vec<u16> = granted
            .iter()
            .filter(|(handle, mailbox)| receive.handles.are_still_for(*handle, mailbox))
            .map(|(handle, _)| *handle)
            .collect();
        if open.is_empty() || !self.forgets_handles() {
            return;
        }
        if may_be_read {
            openings.insert(request, Opening::GivenUp(open));
        } else {
            drop(openings);
            self.take_back(&mut receive, &open);
        }
    }

    /// The peer has read the request with which it was granted this handle.
    pub(crate) fn handle_forget_of_a_grant(&self, handle: u32) {
        lock(&self.openings).retain(|_, opening| match opening {
            Opening::Waiting(_) => true,
            Opening::GivenUp(granted) => !granted.iter().any(|granted| u32::from(*granted) == handle),
        });
    }

    /// Whether what was not delivered is a request for a stream: then whoever asked for it is told.
    pub(super) fn refuses_stream(&self, receive: &mut Receive, handle: u32, correlation: u64) -> bool {
        let asked = lock(&self.routes)
            .by_handle
            .get(&handle)
            .is_some_and(|known| known.label().mailbox.starts_with(LISTENER));
        let opening = asked.then(|| lock(&self.openings).remove(&correlation)).flatten();
        match opening {
            None => return false,
            Some(Opening::Waiting(waker)) => waker.into_iter().for_each(Waker::wake),
            Some(Opening::GivenUp(granted)) => self.take_back(receive, &granted),
        }
        true
    }

    /// The session is over.
    pub(super) fn end_openings(&self) {
        for opening in std::mem::take(&mut *lock(&self.openings)).into_values() {
            if let Opening::Waiting(Some(waker)) = opening {
                waker.wake();
            }
        }
    }
}

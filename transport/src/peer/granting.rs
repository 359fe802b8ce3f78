//! Mailboxes without a name, granted to one peer: what streams are made of.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::PeerInner;
use super::receiving::Receive;
use super::routes::Known;
use crate::address::{Label, Route, Terms};
use crate::mailbox::MailboxShared;
use crate::wait::lock;

impl PeerInner {
    /// Lets the peer send to a mailbox that has no name: what it has to know for that. `None` when the session is over or
    /// has no handle left.
    pub(crate) fn grant(self: &Arc<Self>, mailbox: &Arc<MailboxShared>) -> Option<Terms> {
        let mut receive = self.receive_side();
        if self.ended.get().is_some() {
            return None;
        }
        self.free_handles(&mut receive.handles);
        let open = |handle| mailbox.port(&self.weak(), u32::from(handle));
        let port = receive.handles.give(open)?;
        Some(Terms {
            handle: port.handle as u16,
            limit: port.granted(),
            overflow: mailbox.options.overflow,
            max_message: mailbox.options.max_message,
        })
    }

    /// Takes back handles that were granted in a message that the peer has not read. Their mailboxes are closed; the peer, which
    /// has never heard of them, can't say that it sends nothing there.
    pub(super) fn take_back(&self, receive: &mut Receive, granted: &[u16]) {
        if !self.forgets_handles() {
            return;
        }
        for handle in granted {
            // One that is not given out any more is of a session that is over.
            let _ = receive.handles.forget(u32::from(*handle), 0, 0);
        }
        self.forget_handles(receive);
    }

    /// As [`PeerInner::take_back`], for a message that could not be sent.
    pub(crate) fn take_unsent_back(&self, granted: &[u16]) {
        self.take_back(&mut self.receive_side(), granted);
    }

    /// The way to a mailbox that the peer has granted; a closed one, if the mailbox has been closed since. To be asked for once,
    /// also where nobody will go there: the peer waits to hear that. `None` when the session is over, or when the peer has granted
    /// the handle before.
    pub(crate) fn granted(self: &Arc<Self>, label: String, terms: Terms) -> Option<Arc<Route>> {
        let route = Arc::new(Route::new(self.clone(), Label::of_a_stream(label), terms));
        let mut routes = lock(&self.routes);
        // Under the lock: the end of a session sets this first, then takes out the routes that it finds.
        if self.ended.get().is_some() {
            return None;
        }
        let known = match routes.by_handle.get(&u32::from(route.handle)) {
            None => Known::Open(route.clone()),
            Some(Known::Closed(_)) => {
                self.close_route(&route);
                Known::Closed(route.label.clone())
            }
            Some(Known::Open(_)) => return None,
        };
        routes.by_handle.insert(u32::from(route.handle), known);
        Some(route)
    }

    /// Whether what goes to this handle is a part of a stream, whose halves are told what becomes of it.
    pub(super) fn carries_stream(&self, handle: u32) -> bool {
        let routes = lock(&self.routes);
        routes
            .by_handle
            .get(&handle)
            .is_some_and(|known| known.label().carries_stream)
    }

    /// A number that no other request of this session has.
    pub(crate) fn next_request(&self) -> u32 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }
}

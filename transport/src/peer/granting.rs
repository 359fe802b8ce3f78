//! Mailboxes without a name, granted to one peer: what streams are made of.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::PeerInner;
use super::routes::Known;
use crate::address::{Label, Route, Terms};
use crate::handshake::CAPABILITY_FORGETTING;
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

    /// Takes back what was granted in a message that has not been delivered. The mailbox is closed; the peer, which has never
    /// heard of it, can't say that it sends nothing there.
    pub(crate) fn take_back(&self, handle: u16) {
        let mut receive = self.receive_side();
        let understands = self.identity.capabilities & CAPABILITY_FORGETTING != 0;
        if understands && receive.handles.forget(u32::from(handle), 0, 0).is_ok() {
            self.forget_handles(&mut receive);
        }
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

    /// Whether what was not delivered is a request for a stream: then whoever asked for it is told.
    pub(super) fn refuses_stream(&self, handle: u32, correlation: u64) -> bool {
        let asked = lock(&self.routes)
            .by_handle
            .get(&handle)
            .is_some_and(|known| known.label().mailbox.starts_with(crate::stream::LISTENER));
        let opening = asked.then(|| lock(&self.openings).remove(&correlation)).flatten();
        opening
            .map(|waker| waker.into_iter().for_each(Waker::wake))
            .is_some()
    }

    /// A number that no other request of this session has.
    pub(crate) fn next_request(&self) -> u32 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }
}

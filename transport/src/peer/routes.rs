//! The peer's mailboxes as this node knows them: asked for by name, reached by handle, credited, closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::PeerInner;
use crate::address::{Address, Route, Target, Terms};
use crate::control::{Control, MAX_NAME};
use crate::dead_letter::{DeadLetter, Reason};
use crate::session::Ended;
use crate::wait::lock;

/// Why a mailbox of a peer could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The peer has no mailbox of this name now.
    #[error("node {node} has no mailbox {mailbox:?}")]
    NoSuchMailbox {
        /// The peer.
        node: String,
        /// The name asked for.
        mailbox: String,
    },
    /// The name is empty or longer than [`MAX_NAME`] bytes.
    #[error("mailbox name of {len} bytes: 1 to {MAX_NAME} are allowed")]
    BadName {
        /// Its length in bytes.
        len: usize,
    },
    /// The session is over: connect again.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// The peer did not answer in time.
    #[error("the peer did not answer within {0:?}")]
    TimedOut(Duration),
}

pub(super) enum Resolving {
    Asked(Waker),
    Answered(Option<Arc<Route>>),
}

#[derive(Default)]
pub(super) struct Routes {
    pub(super) by_name: HashMap<String, Arc<Route>>,
    pub(super) by_handle: HashMap<u32, Arc<Route>>,
    pub(super) resolving: HashMap<u32, (String, Resolving)>,
}

impl PeerInner {
    pub(crate) fn handle_resolved(self: &Arc<Self>, request: u32, terms: Option<Terms>) {
        let mut routes = lock(&self.routes);
        let Some((name, resolving)) = routes.resolving.remove(&request) else {
            return;
        };
        // Two threads may have asked at once: they share the handle, so they share its credit.
        let route = terms.map(|terms| match routes.by_handle.get(&terms.handle) {
            Some(known) => known.clone(),
            None => Arc::new(Route::new(self.clone(), name.clone(), terms)),
        });
        if let Some(route) = &route {
            routes.by_name.insert(name.clone(), route.clone());
            routes.by_handle.insert(route.handle, route.clone());
        }
        routes
            .resolving
            .insert(request, (name, Resolving::Answered(route)));
        drop(routes);
        if let Resolving::Asked(waker) = resolving {
            waker.wake();
        }
    }

    pub(crate) fn handle_credit(&self, handle: u32, limit: u64) {
        let route = lock(&self.routes).by_handle.get(&handle).cloned();
        if let Some(route) = route {
            route.grant(limit);
        }
    }

    pub(crate) fn handle_closed(&self, handle: u32) {
        let mut routes = lock(&self.routes);
        if let Some(route) = routes.by_handle.get(&handle).cloned() {
            // The handle stays known, for the dead letters that may still come back.
            if routes
                .by_name
                .get(&route.mailbox)
                .is_some_and(|known| Arc::ptr_eq(known, &route))
            {
                routes.by_name.remove(&route.mailbox);
            }
            drop(routes);
            route.close();
        }
    }

    pub(crate) fn handle_undelivered(&self, handle: u32, length: u32, correlation: u64) {
        let mailbox = lock(&self.routes)
            .by_handle
            .get(&handle)
            .map(|route| route.mailbox.clone());
        self.report(DeadLetter {
            reason: Reason::MailboxClosed,
            node: Some(self.identity.node.clone()),
            mailbox: mailbox.unwrap_or_else(|| format!("#{handle}")),
            correlation: (correlation != 0).then_some(correlation),
            len: length as usize,
            payload: None,
        });
    }

    pub(super) fn resolve(
        self: &Arc<Self>,
        mailbox: &str,
        asked: &mut Option<u32>,
        waker: &Waker,
    ) -> Poll<Result<Address, ResolveError>> {
        if mailbox.is_empty() || mailbox.len() > MAX_NAME {
            return Poll::Ready(Err(ResolveError::BadName { len: mailbox.len() }));
        }
        if let Some(ended) = self.ended() {
            return Poll::Ready(Err(ResolveError::SessionOver(ended)));
        }
        let found = |route: Arc<Route>| {
            Poll::Ready(Ok(Address {
                target: Target::Remote(route),
            }))
        };
        let mut routes = lock(&self.routes);
        if let Some(route) = routes.by_name.get(mailbox) {
            return found(route.clone());
        }
        if let Some(request) = *asked {
            return match routes.resolving.remove(&request) {
                Some((_, Resolving::Answered(Some(route)))) => found(route),
                Some((_, Resolving::Answered(None))) => Poll::Ready(Err(ResolveError::NoSuchMailbox {
                    node: self.identity.node.clone(),
                    mailbox: mailbox.to_owned(),
                })),
                Some((name, Resolving::Asked(_))) => {
                    routes
                        .resolving
                        .insert(request, (name, Resolving::Asked(waker.clone())));
                    Poll::Pending
                }
                // The session ended in between.
                None => Poll::Ready(Err(ResolveError::SessionOver(
                    self.ended().unwrap_or(Ended::Closed),
                ))),
            };
        }
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        *asked = Some(request);
        routes
            .resolving
            .insert(request, (mailbox.to_owned(), Resolving::Asked(waker.clone())));
        drop(routes);
        self.send_control(&Control::Resolve {
            request,
            name: mailbox.to_owned(),
        });
        Poll::Pending
    }
}

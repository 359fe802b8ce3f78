//! The peer's mailboxes as this node knows them: asked for by name, reached by handle, credited, closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::PeerInner;
use super::receiving::Receive;
use crate::address::{Address, Label, Route, Target, Terms};
use crate::control::{Control, MAX_NAME};
use crate::dead_letter::{DeadLetter, Reason};
use crate::lane::Lane;
use crate::observe::CreditObservation;
use crate::protocol::{Asked, Refusal, Spoken};
use crate::questions::ANSWERS;
use crate::ring::Position;
use crate::session::Ended;
use crate::stream::LISTENER;
use crate::wait::lock;
use crate::watch::Gone;

/// Why a mailbox of a peer could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The peer has no mailbox of this name now.
    #[error("node {node:?} has no mailbox {mailbox:?}")]
    NoSuchMailbox {
        /// The peer.
        node: String,
        /// The name asked for.
        mailbox: String,
    },
    /// The mailbox speaks another protocol, or not this version of it: the two programs do not fit.
    #[error(
        "mailbox {mailbox:?} of node {node:?} speaks {}, and was asked for {asked}",
        speaks.as_ref().map_or("raw bytes".to_owned(), ToString::to_string)
    )]
    WrongProtocol {
        /// The node.
        node: String,
        /// The mailbox.
        mailbox: String,
        /// What this side would speak.
        asked: Asked,
        /// What the mailbox speaks; `None` for raw bytes.
        speaks: Option<Spoken>,
    },
    /// The session has had as many mailboxes resolved as it may: close it and connect again.
    #[error("the session with node {node:?} has no handle left for mailbox {mailbox:?}")]
    TooManyHandles {
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

impl ResolveError {
    pub(crate) fn refused(
        node: &str,
        mailbox: &str,
        asked: Option<&Asked>,
        refusal: Refusal,
    ) -> ResolveError {
        let (node, mailbox) = (node.to_owned(), mailbox.to_owned());
        match (refusal, asked) {
            (Refusal::SpeaksOther(speaks), Some(asked)) => ResolveError::WrongProtocol {
                node,
                mailbox,
                asked: asked.clone(),
                speaks,
            },
            (Refusal::TooManyHandles, _) => ResolveError::TooManyHandles { node, mailbox },
            (Refusal::NoSuchMailbox | Refusal::SpeaksOther(_), _) => {
                ResolveError::NoSuchMailbox { node, mailbox }
            }
        }
    }
}

/// A mailbox by name, and what will be spoken to it: `None` for raw bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) mailbox: String,
    pub(super) protocol: Option<Asked>,
}

pub(super) enum Resolving {
    Asked(Waker),
    /// Nobody waits for the answer any more. What it says of the handle counts all the same.
    GivenUp,
    Answered(Result<Arc<Route>, Refusal>),
}

#[derive(Default)]
pub(super) struct Routes {
    pub(super) by_name: HashMap<Wanted, Arc<Route>>,
    pub(super) by_handle: HashMap<u32, Known>,
    pub(super) resolving: HashMap<u32, (Wanted, Resolving)>,
}

impl Routes {
    /// Takes everything out, for the end of the session. The labels stay: dead letters name the mailbox, also those of what is
    /// committed after the end.
    pub(super) fn end(&mut self) -> Routes {
        let closed = |(handle, known): (&u32, &Known)| (*handle, Known::Closed(known.label().clone()));
        let labels = Routes {
            by_handle: self.by_handle.iter().map(closed).collect(),
            ..Routes::default()
        };
        std::mem::replace(self, labels)
    }
}

/// A handle that the peer has given out.
#[derive(Clone)]
pub(super) enum Known {
    Open(Arc<Route>),
    /// Its mailbox is closed, or the session over. The label is kept for the dead letters that may still come.
    Closed(Arc<Label>),
}

impl Known {
    pub(super) fn label(&self) -> &Arc<Label> {
        match self {
            Known::Open(route) => &route.label,
            Known::Closed(label) => label,
        }
    }

    fn open(&self) -> Option<&Arc<Route>> {
        match self {
            Known::Open(route) => Some(route),
            Known::Closed(_) => None,
        }
    }
}

/// A mailbox of the peer that is closed, and how far this node must have consumed before its watchers are told.
pub(crate) struct Closing {
    ordinary: Position,
    large: Position,
    pub(super) route: Arc<Route>,
}

impl PeerInner {
    pub(crate) fn handle_resolved(self: &Arc<Self>, request: u32, terms: Result<Terms, Refusal>) {
        let mut routes = lock(&self.routes);
        let Some((wanted, resolving)) = routes.resolving.remove(&request) else {
            return;
        };
        let route = terms.map(|terms| {
            let handle = u32::from(terms.handle);
            // Two threads may have asked at once: they share the handle, so they share its credit.
            let is_new = match routes.by_handle.get(&handle) {
                Some(Known::Open(known)) => return known.clone(),
                Some(Known::Closed(_)) => false,
                None => true,
            };
            let label = Label {
                mailbox: wanted.mailbox.clone(),
                protocol: wanted.protocol.clone(),
                carries_stream: false,
            };
            let route = Arc::new(Route::new(self.clone(), label, terms));
            if is_new {
                routes.by_handle.insert(handle, Known::Open(route.clone()));
            } else {
                // Overtaken by its mailbox's end.
                route.close();
            }
            route
        });
        if let Ok(route) = &route
            && !route.is_closed()
        {
            routes.by_name.insert(wanted.clone(), route.clone());
        }
        if !matches!(resolving, Resolving::GivenUp) {
            routes
                .resolving
                .insert(request, (wanted, Resolving::Answered(route)));
        }
        drop(routes);
        if let Resolving::Asked(waker) = resolving {
            waker.wake();
        }
    }

    /// How many names are being resolved.
    #[cfg(feature = "conformance")]
    pub(crate) fn resolving(&self) -> usize {
        lock(&self.routes).resolving.len()
    }

    pub(crate) fn observe_credits(&self) -> Vec<CreditObservation> {
        let routes = lock(&self.routes);
        let mut credits: Vec<_> = routes
            .by_handle
            .values()
            .filter_map(Known::open)
            .map(|route| route.observe())
            .collect();
        credits.sort_by(|a, b| a.mailbox.cmp(&b.mailbox));
        credits
    }

    pub(crate) fn handle_credit(&self, handle: u32, limit: u64) {
        let known = lock(&self.routes).by_handle.get(&handle).cloned();
        if let Some(Known::Open(route)) = known {
            route.grant(limit);
        }
    }

    /// Tells the peer that a mailbox is closed, and behind which of this node's messages.
    pub(crate) fn send_closed(&self, handle: u32) {
        self.send_control(&Control::Closed {
            handle,
            ordinary: self.send.ring(Lane::Ordinary).claimed(),
            large: self.send.ring(Lane::Large).claimed(),
        });
    }

    pub(crate) fn handle_closed(
        &self,
        receive: &mut Receive,
        handle: u32,
        ordinary: Position,
        large: Position,
    ) {
        let mut routes = lock(&self.routes);
        let route = match routes.by_handle.get(&handle) {
            Some(Known::Open(route)) => route.clone(),
            // A peer may repeat itself: once is remembered.
            Some(Known::Closed(_)) => return,
            // Granted in a message that nobody has read yet.
            None => {
                if handle < u32::from(ANSWERS) {
                    let label = Arc::new(Label::of_a_stream(LISTENER.to_owned()));
                    routes.by_handle.insert(handle, Known::Closed(label));
                }
                return;
            }
        };
        routes.by_name.retain(|_, known| !Arc::ptr_eq(known, &route));
        routes
            .by_handle
            .insert(handle, Known::Closed(route.label.clone()));
        for (_, resolving) in routes.resolving.values_mut() {
            // Nobody may come for this answer.
            if matches!(resolving, Resolving::Answered(Ok(answer)) if Arc::ptr_eq(answer, &route)) {
                *resolving = Resolving::Answered(Err(Refusal::NoSuchMailbox));
            }
        }
        drop(routes);
        self.close_route(&route);
        receive.closings.push(Closing {
            ordinary,
            large,
            route,
        });
    }

    /// The peer has closed the mailbox.
    pub(super) fn close_route(&self, route: &Route) {
        route.close();
        if self.forgets_handles() {
            route.forget_when_dropped();
        }
    }

    /// The peer will not come back to what was sent to this handle, and may give it out again.
    pub(crate) fn handle_forgotten(&self, handle: u32) {
        let mut routes = lock(&self.routes);
        if let Some(Known::Closed(_)) = routes.by_handle.get(&handle) {
            routes.by_handle.remove(&handle);
        }
    }

    /// Tells the watchers of mailboxes that are closed, once what was sent before has been handed out.
    #[cold]
    pub(crate) fn tell_watchers(&self, receive: &mut Receive) {
        let ordinary = receive.lanes.ring(Lane::Ordinary).consumed();
        let large = receive.lanes.ring(Lane::Large).consumed();
        let due = |closing: &mut Closing| closing.ordinary <= ordinary && closing.large <= large;
        for closing in receive.closings.extract_if(.., due) {
            closing.route.watchers.tell(&Gone::MailboxClosed);
        }
    }

    pub(crate) fn handle_undelivered(
        &self,
        receive: &mut Receive,
        handle: u32,
        length: u32,
        waited: Duration,
        correlation: u64,
    ) {
        self.node.questions.not_taken(Some(correlation), self.session_id);
        if self.carries_stream(handle) || self.refuses_stream(receive, handle, correlation) {
            return;
        }
        self.report(DeadLetter {
            correlation: (correlation != 0).then_some(correlation),
            age: Some(waited),
            ..self.letter_to(handle, Reason::MailboxClosed, length as usize)
        });
    }

    /// A letter about a message that was sent to this handle.
    pub(super) fn letter_to(&self, handle: u32, reason: Reason, len: usize) -> DeadLetter {
        let known = lock(&self.routes).by_handle.get(&handle).cloned();
        let (mailbox, protocol) = match known.as_ref().map(Known::label) {
            Some(label) => (
                label.mailbox.clone(),
                label.protocol.as_ref().map(|asked| asked.name.clone()),
            ),
            None if handle == u32::from(ANSWERS) => ("answers".to_owned(), None),
            None => (format!("#{handle}"), None),
        };
        DeadLetter {
            node: Some(self.identity.node.clone()),
            protocol,
            ..DeadLetter::new(reason, mailbox, len)
        }
    }
}

/// A mailbox of the peer that somebody waits to learn the handle of.
pub(super) struct Asking<'p> {
    peer: &'p Arc<PeerInner>,
    wanted: Wanted,
    /// The number of the `Resolve`, once it was sent.
    request: Option<u32>,
}

impl<'p> Asking<'p> {
    pub(super) fn new(peer: &'p Arc<PeerInner>, mailbox: &str, protocol: Option<Asked>) -> Asking<'p> {
        Asking {
            peer,
            wanted: Wanted {
                mailbox: mailbox.to_owned(),
                protocol,
            },
            request: None,
        }
    }

    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<Address, ResolveError>> {
        let (peer, mailbox) = (self.peer, &self.wanted.mailbox);
        if mailbox.is_empty() || mailbox.len() > MAX_NAME {
            return Poll::Ready(Err(ResolveError::BadName { len: mailbox.len() }));
        }
        let found = |route: Arc<Route>| {
            Poll::Ready(Ok(Address {
                target: Target::Remote(route),
            }))
        };
        let mut routes = lock(&peer.routes);
        // Under the lock: the end of a session sets this first, then wakes those whom it finds here.
        if let Some(ended) = peer.ended() {
            return Poll::Ready(Err(ResolveError::SessionOver(ended)));
        }
        if let Some(route) = routes.by_name.get(&self.wanted).cloned() {
            return found(route);
        }
        let Some(request) = self.request else {
            let request = peer.next_request();
            self.request = Some(request);
            let asked = Resolving::Asked(waker.clone());
            routes.resolving.insert(request, (self.wanted.clone(), asked));
            drop(routes);
            peer.send_control(&Control::Resolve {
                request,
                name: mailbox.clone(),
                protocol: self.wanted.protocol.clone(),
            });
            return Poll::Pending;
        };
        match routes.resolving.get_mut(&request).map(|(_, resolving)| resolving) {
            Some(Resolving::Answered(Ok(route))) => found(route.clone()),
            Some(Resolving::Answered(Err(refusal))) => Poll::Ready(Err(ResolveError::refused(
                &peer.identity.node,
                mailbox,
                self.wanted.protocol.as_ref(),
                refusal.clone(),
            ))),
            Some(resolving) => {
                *resolving = Resolving::Asked(waker.clone());
                Poll::Pending
            }
            // Polled again after it was ready.
            None => Poll::Pending,
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Some(request) = self.request else { return };
        let mut routes = lock(&self.peer.routes);
        let resolving = routes.resolving.remove(&request);
        if let Some((wanted, Resolving::Asked(_))) = &resolving {
            let given_up = (wanted.clone(), Resolving::GivenUp);
            routes.resolving.insert(request, given_up);
        }
        // Before the waker goes, whose last owner may be this.
        drop(routes);
    }
}

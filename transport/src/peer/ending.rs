//! The end of a session: in good order, or with everything unacknowledged as dead letters.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::receiving::Receive;
use super::routes::{Known, Resolving};
use super::{Peer, PeerInner};
use crate::address::correlation_in;
use crate::breakage::{Breakage, is_broken};
use crate::control::Control;
use crate::dead_letter::{DeadLetter, Reason};
use crate::event::Event;
use crate::frame::Kind;
use crate::lane::{LANES, Lane};
use crate::large::Remains;
use crate::ring::Position;
use crate::session::Ended;
use crate::wait::{Place, lock};
use crate::watch::Gone;

/// How far the send rings of a session that is over were looked through for dead letters.
#[derive(Default)]
pub(super) struct Collected {
    /// Nothing is lent any more, so that the rings show every payload.
    settled: bool,
    until: [Position; LANES],
    chunks: Remains,
}

impl Peer {
    /// Waits until the session is over, and says why: a future that any executor can run.
    pub async fn over(&self) -> Ended {
        let mut place = Place::default();
        std::future::poll_fn(|context| {
            if let Some(ended) = self.ended() {
                return Poll::Ready(ended);
            }
            place.register(&self.0.closing, context.waker());
            match self.ended() {
                Some(ended) => Poll::Ready(ended),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl PeerInner {
    /// Ends the session: everything unacknowledged becomes a dead letter, everybody who waits is told.
    pub(crate) fn end(self: &Arc<Self>, receive: &mut Receive, why: Ended) {
        if self.ended.set(why.clone()).is_err() {
            return;
        }
        lock(&self.life).end(why.clone());
        #[cfg(feature = "tokio")]
        {
            receive.told = None;
        }
        receive.link = None;
        self.gate.put(None);
        *lock(&self.link) = None;
        self.send.ring(Lane::Large).settle();
        for ring in &self.send.rings {
            ring.close();
        }
        let routes = lock(&self.routes).end();
        for known in routes.by_handle.values() {
            if let Known::Open(route) = known {
                route.close();
            }
        }
        // Either who commits finds the session over, or what it commits is found here: see `flush`.
        fence(Ordering::SeqCst);
        self.gate.settle();
        lock(&self.collected).settled = true;
        self.collect_unacknowledged();
        for (_, (_, resolving)) in routes.resolving {
            if let Resolving::Asked(waker) = resolving {
                waker.wake();
            }
        }
        for handle in receive.assembler.close() {
            if let Some(port) = receive.handles.get(handle) {
                port.forget_one();
            }
        }
        for port in receive.handles.drain() {
            port.mailbox.session_over();
        }
        self.end_openings();
        self.room.wake_all();
        self.large.close();
        self.closing.wake_all();
        self.link_changed.wake_all();
        for closing in receive.closings.drain(..) {
            closing.route.watchers.tell(&Gone::MailboxClosed);
        }
        let gone = Gone::SessionOver(why.clone());
        for known in routes.by_handle.values() {
            if let Known::Open(route) = known {
                route.watchers.tell(&gone);
            }
        }
        self.watchers.tell(&gone);
        self.node.questions.session_over(self.session_id, &why);
        self.node.forget_peer(self);
        self.node.events.tell(Event::Ended {
            node: self.identity.node.clone(),
            why,
        });
    }

    /// Makes dead letters of committed messages that the peer has not acknowledged. Called again by whoever commits
    /// after the end, so that each is reported once and none is missed.
    pub(super) fn collect_unacknowledged(&self) {
        if is_broken(Breakage::ForgetsDeadLetters) {
            return;
        }
        let mut collected = lock(&self.collected);
        if !collected.settled {
            // Who ends the session is still to look, after this.
            return;
        }
        let ages = lock(&self.ages);
        let Collected { until, chunks, .. } = &mut *collected;
        for lane in [Lane::Ordinary, Lane::Large] {
            let from = until[lane.index()];
            until[lane.index()] = self
                .send
                .ring(lane)
                .unacknowledged(from, |position, header, body| {
                    let (extension, payload) = body.split_at(usize::from(header.extension).min(body.len()));
                    let (correlation, len, payload) = match header.kind {
                        Kind::Message => (
                            correlation_in(header.flags, extension),
                            payload.len(),
                            Some(payload.into()),
                        ),
                        Kind::Chunk => match chunks.take(header, body) {
                            Some(message) => {
                                (message.correlation, message.len, message.payload.map(Into::into))
                            }
                            None => return,
                        },
                        Kind::Padding | Kind::Control => return,
                    };
                    if self.carries_stream(u32::from(header.mailbox)) {
                        return;
                    }
                    self.report(DeadLetter {
                        correlation,
                        age: ages[lane.index()].at_most(position, self.node.now()),
                        payload,
                        ..self.letter_to(u32::from(header.mailbox), Reason::Unacknowledged, len)
                    });
                });
        }
    }

    pub(super) fn close(self: &Arc<Self>, timeout: Duration) {
        if self.ended.get().is_none() {
            self.say_goodbye();
            let deadline = Instant::now().checked_add(timeout);
            let mut place = Place::default();
            self.node.wait_for(deadline, |waker| {
                if self.is_flushed() {
                    return Poll::Ready(());
                }
                place.register_all([&self.closing, &self.room, &self.large.room], waker);
                if self.is_flushed() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
        }
        self.finish_close();
    }

    /// Begins to close in good order.
    pub(crate) fn say_goodbye(&self) {
        self.send_control(&Control::Goodbye);
    }

    /// Whether the peer has acknowledged the goodbye and everything that was sent, or the session is over.
    pub(crate) fn is_flushed(&self) -> bool {
        let taken = |lane| self.send.ring(lane).released() >= self.send.ring(lane).claimed();
        self.ended.get().is_some()
            || self.goodbye_acknowledged.load(Ordering::Acquire)
                && taken(Lane::Ordinary)
                && taken(Lane::Large)
    }

    /// Ends the session, however far the close has come.
    pub(crate) fn finish_close(self: &Arc<Self>) {
        let mut receive = self.receive_side();
        self.end(&mut receive, Ended::Closed);
    }

    pub(crate) fn handle_goodbye(self: &Arc<Self>, receive: &mut Receive) {
        receive.leaving = true;
        self.acknowledge(receive, true);
        self.send_control(&Control::GoodbyeAcknowledged);
    }

    pub(crate) fn handle_goodbye_acknowledged(&self) {
        self.goodbye_acknowledged.store(true, Ordering::Release);
        self.closing.wake_all();
    }
}

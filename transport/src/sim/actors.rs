//! What the actors of a host do in one turn: connect, resolve, send, take, panic, close; and the books that they keep.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Poll;
use std::time::Duration;

use super::books::{Books, Destination, payload};
use super::faults::Faults;
use super::host::{Correspondence, Inbox, Life, Route, TIMING, inbox_name, poll};
use crate::connect::connect;
use crate::random::Random;
use crate::session::Time;
use crate::{Address, Ended, Event, Peer, SendError};

/// What the actors of one host may do, and with what.
pub(super) struct Turn<'t> {
    pub(super) host: usize,
    pub(super) now: Time,
    pub(super) random: &'t mut Random,
    pub(super) books: &'t mut Books,
    pub(super) faults: &'t Faults,
    /// How many mailboxes each host has.
    pub(super) inboxes: &'t [usize],
    /// Most messages that a session is given in this turn.
    pub(super) burst: u64,
    /// How often a session sends a burst at all.
    pub(super) eagerness: u64,
}

/// A panic that is part of the history.
struct Part;

impl Turn<'_> {
    /// One turn of everybody.
    pub(super) fn run(&mut self, life: &mut Life) {
        self.keep_connected(life);
        self.look_for_sessions(life);
        let mut correspondences = std::mem::take(&mut life.correspondences);
        for correspondence in &mut correspondences {
            self.correspond(life, correspondence);
        }
        correspondences.retain(|correspondence| {
            let ended = correspondence.peer.ended();
            if let Some(Ended::Gone { .. }) = ended {
                self.books.gone(correspondence.peer.incarnation());
            }
            ended.is_none()
        });
        life.correspondences = correspondences;
        for inbox in 0..life.inboxes.len() {
            if self.random.one_in(self.faults.laziness) {
                self.take(life, inbox);
            }
            self.reopen(life, inbox);
        }
        self.read_letters(life);
    }

    fn keep_connected(&mut self, life: &mut Life) {
        for dial in &mut life.dials {
            if let Some(peer) = &dial.peer {
                if peer.ended().is_none() {
                    continue;
                }
                dial.peer = None;
                dial.not_before = self.now + self.random.micros(5_000);
            }
            if dial.dialling.is_none() && dial.not_before <= self.now {
                let (node, addresses) = (life.node.inner.clone(), dial.addresses.clone());
                dial.dialling = Some(Box::pin(connect(node, addresses)));
            }
            let Some(dialling) = &mut dial.dialling else {
                continue;
            };
            if let Poll::Ready(connected) = poll(dialling) {
                dial.dialling = None;
                dial.peer = connected.ok().map(Peer);
                dial.not_before = self.now + Duration::from_millis(3);
            }
        }
    }

    fn look_for_sessions(&mut self, life: &mut Life) {
        for peer in life.node.peers() {
            let known = life
                .correspondences
                .iter()
                .any(|known| known.peer.0.session_id == peer.0.session_id);
            let host = peer
                .node()
                .strip_prefix("host")
                .and_then(|host| host.parse().ok());
            let Some(host) = host.filter(|_| !known) else {
                continue;
            };
            let routes: fn(_) -> _ = |_| Route::default();
            life.correspondences.push(Correspondence {
                peer,
                host,
                routes: (0..self.inboxes[host]).map(routes).collect(),
                closing_until: None,
            });
        }
    }

    fn correspond(&mut self, life: &mut Life, correspondence: &mut Correspondence) {
        let Correspondence {
            peer,
            host,
            routes,
            closing_until,
        } = correspondence;
        if let Some(until) = *closing_until {
            let flushed = peer.0.is_flushed();
            if flushed || until <= self.now {
                let lives = peer.ended().is_none();
                peer.0.finish_close();
                self.read_letters(life);
                let session = peer.0.session_id;
                if flushed && lives && self.books.any_unacknowledged(session, life.number) {
                    self.books
                        .wrong("a close that was acknowledged left messages behind".into());
                }
            }
            return;
        }
        if self.random.one_in(self.faults.goodbye) {
            peer.0.say_goodbye();
            *closing_until = Some(self.now + self.random.micros(100_000));
            return;
        }
        for (inbox, route) in routes.iter_mut().enumerate() {
            if let Some(resolving) = &mut route.resolving {
                if let Poll::Ready(resolved) = poll(resolving) {
                    route.resolving = None;
                    route.address = resolved.ok();
                }
            } else if route.address.is_none() {
                let (peer, name) = (peer.clone(), inbox_name(inbox));
                route.resolving = Some(Box::pin(async move { peer.address_async(&name).await }));
            }
        }
        if !self.random.one_in(self.eagerness) {
            return;
        }
        for _ in 0..self.random.below(self.burst + 1) {
            let inbox = self.random.below(routes.len() as u64) as usize;
            let to = Destination { host: *host, inbox };
            self.send(life.number, peer, &mut routes[inbox], to);
        }
    }

    fn send(&mut self, life: u32, peer: &Peer, route: &mut Route, to: Destination) {
        let Some(address) = &route.address else { return };
        let longest = *self.random.pick(&[16, 100, 100, 100, 900, 3_000]);
        let id = self.books.next_id();
        let message = payload(id, self.random.between(8, longest) as usize);
        let sent = match self.random.one_in(3) {
            true => Self::send_by_buffer(peer, address, &message, id),
            false => address.try_send_with(&message, Some(id)),
        };
        match sent {
            Ok(()) => {
                self.books
                    .sent(life, peer.0.session_id, route.sequence, to, message.len());
                route.sequence += 1;
            }
            Err(SendError::MailboxClosed { .. } | SendError::SessionOver(_)) => route.address = None,
            Err(_) => {}
        }
    }

    /// Where links gather, the message is lent. Its buffer is written anew as soon as it is to be had again.
    fn send_by_buffer(
        peer: &Peer,
        address: &Address,
        message: &[u8],
        correlation: u64,
    ) -> Result<(), SendError> {
        let mut buffer = peer.0.node.buffer(message.len()).expect("memory for a buffer");
        buffer.copy_from_slice(message);
        address
            .try_send_buffer_with(buffer, Some(correlation))
            .map_err(|unsent| unsent.why)
    }

    fn take(&mut self, life: &mut Life, at: usize) {
        let most = self.random.below(40);
        let at = Destination {
            host: self.host,
            inbox: at,
        };
        let Inbox {
            mailbox,
            options,
            opening,
        } = &mut life.inboxes[at.inbox];
        let depth = mailbox.depth();
        // Sessions that have ended may have left as many messages each as one that lives.
        let sessions = 1 + life.node.dead_letters().count().max(40) as usize;
        if depth > options.capacity as usize * sessions {
            self.books.wrong(format!(
                "{at:?} of capacity {} holds {depth} messages",
                options.capacity
            ));
        }
        if self.random.one_in(3) {
            // Lent in place, by the thread that drives.
            let (books, random, panic) = (&mut *self.books, &mut *self.random, self.faults.panic);
            let handled = catch_unwind(AssertUnwindSafe(|| {
                mailbox.poll(|message| {
                    books.taken(at, *opening, message.payload, message.correlation);
                    if random.one_in(panic) {
                        resume_unwind(Box::new(Part));
                    }
                })
            }));
            match handled {
                Ok(_) => {}
                Err(panic) if panic.is::<Part>() => {}
                Err(panic) => resume_unwind(panic),
            }
            return;
        }
        for _ in 0..most {
            match mailbox.try_recv() {
                Ok(Some(message)) => {
                    self.books
                        .taken(at, *opening, message.payload, message.correlation);
                }
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn reopen(&mut self, life: &mut Life, at: usize) {
        if !self.random.one_in(self.faults.reopened) {
            return;
        }
        let Inbox { options, opening, .. } = life.inboxes.remove(at);
        // The old mailbox is closed by now: its name is free.
        if let Ok(mailbox) = life.node.mailbox(&inbox_name(at), options) {
            life.inboxes.insert(
                at,
                Inbox {
                    mailbox,
                    options,
                    opening: opening + 1,
                },
            );
        } else {
            self.books
                .wrong("a name is not free after its mailbox was closed".into());
        }
    }

    /// Everything that the host's mailboxes hold is taken.
    pub(super) fn take_all(&mut self, life: &mut Life) {
        for (at, inbox) in life.inboxes.iter_mut().enumerate() {
            let at = Destination {
                host: self.host,
                inbox: at,
            };
            while let Ok(Some(message)) = inbox.mailbox.try_recv() {
                self.books
                    .taken(at, inbox.opening, message.payload, message.correlation);
            }
        }
    }

    pub(super) fn read_letters(&mut self, life: &mut Life) {
        while let Ok(letter) = life.letters.try_recv() {
            self.books
                .dead(letter.correlation, letter.reason, letter.node.is_some());
        }
        if life.node.dead_letters().missed() > 0 {
            self.books
                .wrong("more dead letters than the books can read".into());
        }
    }

    /// `spared`: nothing ever happens to links. Then none is given up, once it has had the time to prove itself: a new one has
    /// half the silence, and a heartbeat, its way and a step at either end may take longer.
    pub(super) fn read_events(&mut self, life: &mut Life, spared: bool, mut note: impl FnMut(&Event)) {
        while let Ok(event) = life.events.try_recv() {
            note(&event);
            match &event {
                Event::Connected { node, .. } | Event::Resumed { node, .. } => {
                    life.linked.insert(node.clone(), self.now);
                }
                Event::Suspended { node, cause } if spared && !cause.contains("takes its place") => {
                    let since = life.linked.get(node).copied().unwrap_or_default();
                    if self.now - since > TIMING.silence {
                        self.books
                            .wrong(format!("a link to {node} was given up without a fault: {cause}"));
                    }
                }
                _ => {}
            }
        }
    }
}

//! Asking: a message whose answer is waited for, and answering.
//!
//! Tell where you can, ask where you must. Whoever asks waits for another node, holds what it knows while it waits, and has
//! to decide what a missing answer means: a question that timed out may have been acted upon. A message that carries a
//! [`crate::Reference`] to reply to, with the answer as an ordinary message, costs no more and leaves both sides free.
//!
//! Asking takes a number from a table and nothing else: no mailbox, no resolution, no credit for the answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{Address, FLAG_CORRELATION, SendError, Target};
use crate::frame::Kind;
use crate::lane::Lane;
use crate::mailbox::{Message, Port};
use crate::node::NodeInner;
use crate::peer::PeerInner;
use crate::questions::{ANSWERS, AskError, QUESTION, THIS_NODE};
use crate::ring::ClaimError;
use crate::wait::Place;

/// A number in the table of questions, given back when the question is done with.
struct Open {
    node: Arc<NodeInner>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.node.questions.close(self.number);
    }
}

impl Address {
    fn open_question(&self, deadline: Option<Duration>) -> Result<Open, AskError> {
        let (node, session) = match &self.target {
            Target::Remote(route) => (&route.peer.node, route.peer.session_id),
            Target::Local(_, node) => (node, THIS_NODE),
        };
        let deadline = deadline.map(|timeout| (node.now().saturating_add(timeout), timeout));
        let (number, earlier) = node.questions.open(session, deadline)?;
        if earlier {
            node.wake();
        }
        Ok(Open {
            node: node.clone(),
            number,
        })
    }

    /// Asks, and blocks until the answer has come, for at most `timeout` in all. See [`crate::ask`] for when not to.
    ///
    /// # Errors
    /// [`AskError::Send`]: it was not asked. [`AskError::NotTaken`]: the mailbox was closed or dropped the question, and
    /// nobody acted upon it. [`AskError::TimedOut`], [`AskError::SessionOver`]: it is not known whether somebody did.
    /// [`AskError::TooManyOpen`]: a million questions are open.
    pub fn ask(&self, question: &[u8], timeout: Duration) -> Result<Vec<u8>, AskError> {
        self.ask_with(timeout, |number| self.try_send_with(question, Some(number)))
    }

    pub(crate) fn ask_with(
        &self,
        timeout: Duration,
        send: impl Fn(u64) -> Result<(), SendError>,
    ) -> Result<Vec<u8>, AskError> {
        let deadline = Instant::now().checked_add(timeout);
        let open = self.open_question(None)?;
        self.waiting_for_room(Some(timeout), || send(open.number))?;
        let answer = open
            .node
            .wait_for(deadline, |waker| open.node.questions.poll(open.number, waker));
        answer.unwrap_or(Err(AskError::TimedOut(timeout)))
    }

    /// As [`Address::ask`], as a future that any executor can run; the node keeps the time. Cancelled, it has asked or has
    /// not, and the answer will be a dead letter.
    ///
    /// # Errors
    /// As [`Address::ask`].
    pub async fn ask_async(&self, question: &[u8], timeout: Duration) -> Result<Vec<u8>, AskError> {
        self.ask_with_async(timeout, |number| self.try_send_with(question, Some(number)))
            .await
    }

    pub(crate) async fn ask_with_async(
        &self,
        timeout: Duration,
        send: impl Fn(u64) -> Result<(), SendError>,
    ) -> Result<Vec<u8>, AskError> {
        let open = self.open_question(Some(timeout))?;
        let mut place = Place::default();
        poll_fn(|context| {
            // The deadline holds for the wait for room too.
            if let std::task::Poll::Ready(failed) = open.node.questions.poll(open.number, context.waker()) {
                return std::task::Poll::Ready(failed.map(drop));
            }
            self.attempt_with(&mut place, context.waker(), || send(open.number))
                .map_err(AskError::from)
        })
        .await?;
        poll_fn(|context| open.node.questions.poll(open.number, context.waker())).await
    }
}

#[derive(Clone)]
enum Whom {
    Peer(Arc<PeerInner>),
    ThisNode(Arc<NodeInner>),
}

/// Whoever asked a question: answer once, now or later, from any thread. Dropped without an answer, the question times out.
#[derive(Clone)]
pub struct Asker {
    whom: Whom,
    number: u64,
}

impl Message<'_> {
    /// Whoever waits for an answer to this message; `None` when it is no question, or the session that it came over is over.
    pub fn asker(&self) -> Option<Asker> {
        let number = self.correlation.filter(|id| id & QUESTION != 0)?;
        let whom = match self.port {
            Some(Port { peer, .. }) => Whom::Peer(peer.upgrade()?),
            None => Whom::ThisNode(self.node.clone()),
        };
        Some(Asker { whom, number })
    }
}

impl Asker {
    /// Answers, or says at once why not. Never blocks. That it succeeded means that the answer was committed; if nobody
    /// waits for it any more it is a dead letter at the asker.
    ///
    /// # Errors
    /// [`SendError::RingFull`]: try again, or use [`Asker::answer`]. [`SendError::TooLarge`]: an answer fits one frame of the
    /// ordinary lane. [`SendError::SessionOver`]: the asker has been told that too. Of an asker on this node none.
    pub fn try_answer(&self, answer: &[u8]) -> Result<(), SendError> {
        match &self.whom {
            Whom::ThisNode(node) => {
                node.take_answer(None, self.number, answer);
                Ok(())
            }
            Whom::Peer(peer) => self.commit(peer, answer),
        }
    }

    fn commit(&self, peer: &PeerInner, answer: &[u8]) -> Result<(), SendError> {
        const EXTENSION: usize = 8;
        let claimed = peer.send.ring(Lane::Ordinary).claim(EXTENSION + answer.len());
        let mut claim = claimed.map_err(|error| match error {
            ClaimError::Full { .. } => SendError::RingFull,
            ClaimError::TooLarge { max, .. } => SendError::TooLarge {
                len: answer.len(),
                max: max - EXTENSION,
            },
            ClaimError::Closed => SendError::SessionOver(peer.ended().unwrap_or(crate::Ended::Closed)),
        })?;
        let (head, body) = claim.body().split_at_mut(EXTENSION);
        head.copy_from_slice(&self.number.to_le_bytes());
        body.copy_from_slice(answer);
        claim.commit(Kind::Message, FLAG_CORRELATION, EXTENSION as u8, ANSWERS);
        peer.flush();
        Ok(())
    }

    /// Answers, waiting for room in the link as long as the session lives. Not from within [`crate::Mailbox::poll`].
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::SessionOver`].
    pub fn answer(&self, answer: &[u8]) -> Result<(), SendError> {
        let Whom::Peer(peer) = &self.whom else {
            return self.try_answer(answer);
        };
        let mut place = Place::default();
        let answered = peer
            .node
            .wait_for(None, |waker| self.attempt(peer, answer, &mut place, waker));
        answered.unwrap_or(Err(SendError::RingFull))
    }

    /// As [`Asker::answer`], as a future.
    ///
    /// # Errors
    /// As [`Asker::answer`].
    pub async fn answer_async(&self, answer: &[u8]) -> Result<(), SendError> {
        let Whom::Peer(peer) = &self.whom else {
            return self.try_answer(answer);
        };
        let mut place = Place::default();
        poll_fn(|context| self.attempt(peer, answer, &mut place, context.waker())).await
    }

    fn attempt<'p>(
        &self,
        peer: &'p PeerInner,
        answer: &[u8],
        place: &mut Place<'p>,
        waker: &std::task::Waker,
    ) -> std::task::Poll<Result<(), SendError>> {
        for registered in [false, true] {
            match self.try_answer(answer) {
                Err(SendError::RingFull) if !registered => place.register(&peer.room, waker),
                Err(SendError::RingFull) => return std::task::Poll::Pending,
                done => return std::task::Poll::Ready(done),
            }
        }
        std::task::Poll::Pending
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

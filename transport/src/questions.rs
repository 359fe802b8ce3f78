//! The questions that a node has asked and not been answered: one table for all, one number for each.
//!
//! A question is a message whose correlation id is its number here. Its answer is a message to the handle that stands for
//! this table on every session ([`ANSWERS`]), with the same number. So asking makes no mailbox, resolves no name, and needs
//! no credit: an answer is taken by whoever waits for it, or is a dead letter.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::session::{Ended, Time};
use crate::wait::lock;

/// The handle of answers, on every session. It is never given out.
pub(crate) const ANSWERS: u16 = u16::MAX;
/// Correlation ids of questions have this bit; those that applications choose should not.
pub(crate) const QUESTION: u64 = 1 << 63;
/// Questions that may be open at one time.
const MAX_OPEN: usize = 1 << 20;
/// No session: the question was asked of a mailbox of this node.
pub(crate) const THIS_NODE: u128 = 0;

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The question was not sent.
    #[error(transparent)]
    Send(#[from] crate::SendError),
    /// The mailbox was closed, or dropped the question, before it was taken. A mailbox of another node that drops its oldest tells
    /// nobody: there the question times out.
    #[error("the question was not taken from its mailbox")]
    NotTaken,
    /// The session with the node that was asked is over. The question may have been acted upon.
    #[error("session over: {0}")]
    SessionOver(Ended),
    /// No answer came in time. The question may have been acted upon; an answer that still comes is a dead letter.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// As many questions are open as may be.
    #[error("{MAX_OPEN} questions are open already")]
    TooManyOpen,
    /// The answer is not what it should be.
    #[error(transparent)]
    Undecodable(#[from] crate::typed::Undecodable),
}

enum State {
    Free,
    Open,
    Done(Result<Vec<u8>, AskError>),
}

struct Slot {
    /// Distinguishes the questions that had this slot one after another.
    generation: u32,
    session: u128,
    state: State,
    waker: Option<Waker>,
    /// When it fails, by this node's driver, and how long that was.
    deadline: Option<(Time, Duration)>,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    fn find(&mut self, number: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(number as u32 as usize)?;
        (number == QUESTION | u64::from(slot.generation) << 32 | u64::from(number as u32)).then_some(slot)
    }
}

/// The table.
pub(crate) struct Questions {
    slots: Mutex<Slots>,
    /// The earliest deadline of an open question, in nanoseconds of the node's time.
    earliest: AtomicU64,
}

impl Default for Questions {
    fn default() -> Questions {
        Questions {
            slots: Mutex::default(),
            earliest: AtomicU64::new(u64::MAX),
        }
    }
}

fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Questions {
    /// A number for a question to a peer's session. With a deadline, the driver fails it then; whether the driver has to
    /// be told of that deadline comes with the number.
    pub(crate) fn open(
        &self,
        session: u128,
        deadline: Option<(Time, Duration)>,
    ) -> Result<(u64, bool), AskError> {
        let mut slots = lock(&self.slots);
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.slots.len() < MAX_OPEN => {
                slots.slots.push(Slot {
                    generation: 0,
                    session,
                    state: State::Free,
                    waker: None,
                    deadline: None,
                });
                (slots.slots.len() - 1) as u32
            }
            None => return Err(AskError::TooManyOpen),
        };
        let slot = &mut slots.slots[index as usize];
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        slot.session = session;
        slot.state = State::Open;
        slot.deadline = deadline;
        let number = QUESTION | u64::from(slot.generation) << 32 | u64::from(index);
        let earlier = deadline.is_some_and(|(at, _)| {
            let at = nanoseconds(at);
            self.earliest.fetch_min(at, Ordering::AcqRel) > at
        });
        Ok((number, earlier))
    }

    /// Forgets a question, answered or not.
    pub(crate) fn close(&self, number: u64) {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.find(number) {
            slot.state = State::Free;
            slot.waker = None;
            slot.deadline = None;
            slots.free.push(number as u32);
        }
    }

    /// What became of a question so far.
    pub(crate) fn poll(&self, number: u64, waker: &Waker) -> Poll<Result<Vec<u8>, AskError>> {
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.find(number) else {
            return Poll::Ready(Err(AskError::NotTaken));
        };
        match std::mem::replace(&mut slot.state, State::Open) {
            State::Done(done) => Poll::Ready(done),
            State::Open | State::Free => {
                slot.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    fn finish(&self, number: u64, session: u128, done: Result<Vec<u8>, AskError>) -> bool {
        let mut slots = lock(&self.slots);
        let open = slots
            .find(number)
            .filter(|slot| slot.session == session && matches!(slot.state, State::Open));
        let Some(slot) = open else { return false };
        slot.state = State::Done(done);
        let waker = slot.waker.take();
        drop(slots);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// An answer has come over a session. False when nobody waits for it.
    pub(crate) fn answer(&self, number: u64, session: u128, answer: &[u8]) -> bool {
        self.finish(number, session, Ok(answer.to_vec()))
    }

    /// A message will not be taken: if it was a question, whoever asked learns so.
    pub(crate) fn not_taken(&self, correlation: Option<u64>, session: u128) {
        if let Some(number) = correlation.filter(|number| number & QUESTION != 0) {
            self.finish(number, session, Err(AskError::NotTaken));
        }
    }

    /// Fails every open question of a session.
    pub(crate) fn session_over(&self, session: u128, why: &Ended) {
        self.fail_where(
            |slot| slot.session == session,
            |_| AskError::SessionOver(why.clone()),
        );
    }

    /// When [`Questions::expire`] has something to do next.
    pub(crate) fn earliest(&self) -> Time {
        Duration::from_nanos(self.earliest.load(Ordering::Acquire))
    }

    /// Fails every open question whose deadline has passed.
    pub(crate) fn expire(&self, now: Time) {
        if self.earliest() > now {
            return;
        }
        let passed = |slot: &Slot| slot.deadline.is_some_and(|(at, _)| at <= now);
        self.fail_where(passed, |slot| {
            AskError::TimedOut(slot.deadline.map_or(Duration::ZERO, |(_, given)| given))
        });
    }

    fn fail_where(&self, which: impl Fn(&Slot) -> bool, why: impl Fn(&Slot) -> AskError) {
        let mut wakers = Vec::new();
        let mut slots = lock(&self.slots);
        let mut earliest = u64::MAX;
        for slot in &mut slots.slots {
            if !matches!(slot.state, State::Open) {
                continue;
            }
            if which(slot) {
                slot.state = State::Done(Err(why(slot)));
                wakers.extend(slot.waker.take());
            } else if let Some((at, _)) = slot.deadline {
                earliest = earliest.min(nanoseconds(at));
            }
        }
        // Under the lock, so that no deadline of a question opened meanwhile is overwritten.
        self.earliest.store(earliest, Ordering::Release);
        drop(slots);
        for waker in wakers {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(questions: &Questions, number: u64) -> Poll<Result<Vec<u8>, AskError>> {
        questions.poll(number, Waker::noop())
    }

    #[test]
    fn an_answer_reaches_its_question_once_and_only_from_the_session_that_was_asked() {
        let questions = Questions::default();
        let (first, _) = questions.open(1, None).unwrap();
        let (second, _) = questions.open(2, None).unwrap();
        assert!(!questions.answer(first, 2, b"not asked") && poll(&questions, first).is_pending());
        assert!(questions.answer(first, 1, b"yes") && !questions.answer(first, 1, b"twice"));
        assert_eq!(poll(&questions, first), Poll::Ready(Ok(b"yes".to_vec())));
        questions.close(first);
        let (third, _) = questions.open(1, None).unwrap();
        assert!(
            !questions.answer(first, 1, b"too late"),
            "its slot has another question"
        );
        questions.session_over(2, &Ended::Closed);
        assert_eq!(
            poll(&questions, second),
            Poll::Ready(Err(AskError::SessionOver(Ended::Closed)))
        );
        assert!(poll(&questions, third).is_pending());
    }

    #[test]
    fn a_question_fails_at_its_deadline_and_the_next_deadline_is_known() {
        const S: Duration = Duration::from_secs(1);
        let questions = Questions::default();
        let (late, told) = questions.open(1, Some((9 * S, 9 * S))).unwrap();
        assert!(told);
        let (soon, told) = questions.open(1, Some((2 * S, 2 * S))).unwrap();
        assert!(told);
        assert!(!questions.open(1, Some((5 * S, 5 * S))).unwrap().1);
        questions.expire(S);
        assert!(poll(&questions, soon).is_pending() && questions.earliest() == 2 * S);
        questions.expire(3 * S);
        assert_eq!(
            poll(&questions, soon),
            Poll::Ready(Err(AskError::TimedOut(2 * S)))
        );
        assert!(poll(&questions, late).is_pending() && questions.earliest() == 5 * S);
    }

    #[test]
    fn numbers_that_a_peer_makes_up_reach_no_question() {
        let questions = Questions::default();
        for number in [0, 1, QUESTION, u64::MAX, QUESTION | 1 << 32] {
            assert!(!questions.answer(number, 1, b""));
            questions.close(number);
        }
    }
}

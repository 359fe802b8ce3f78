//! Asking with types: a message type that has an answer type. See [`crate::ask`] for when to tell instead.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::typed::{Address, Codec, Postcard, Protocol, Undecodable};
use crate::{AskError, SendError};

/// A message type whose messages can be asked: the answers are of one type, and travel as [`Postcard`] has it.
pub trait Question: Protocol {
    /// What an answer is.
    type Answer: Serialize + DeserializeOwned;
}

fn decode<M: Question>(bytes: &[u8]) -> Result<M::Answer, AskError> {
    <Postcard as Codec<M::Answer>>::decode(bytes).map_err(|cause| {
        AskError::Undecodable(Undecodable {
            protocol: M::NAME,
            len: bytes.len(),
            cause,
        })
    })
}

impl<M: Question> Address<M> {
    /// Asks, and blocks until the answer has come, for at most `timeout` in all.
    ///
    /// # Errors
    /// As [`crate::Address::ask`], and [`AskError::Undecodable`] when what came is no answer of this type.
    pub fn ask(&self, question: &M, timeout: Duration) -> Result<M::Answer, AskError> {
        self.ask_writing(timeout, |number| self.try_write(question, Some(number)))
    }

    pub(super) fn ask_writing(
        &self,
        timeout: Duration,
        write: impl Fn(u64) -> Result<(), SendError>,
    ) -> Result<M::Answer, AskError> {
        decode::<M>(&self.raw().ask_with(timeout, write)?)
    }

    /// As [`Address::ask`], as a future that any executor can run.
    ///
    /// # Errors
    /// As [`Address::ask`].
    pub async fn ask_async(&self, question: &M, timeout: Duration) -> Result<M::Answer, AskError> {
        let write = |number| self.try_write(question, Some(number));
        self.ask_writing_async(timeout, write).await
    }

    pub(super) async fn ask_writing_async(
        &self,
        timeout: Duration,
        write: impl Fn(u64) -> Result<(), SendError>,
    ) -> Result<M::Answer, AskError> {
        decode::<M>(&self.raw().ask_with_async(timeout, write).await?)
    }
}

/// Whoever asked a question of type `M`: as [`crate::Asker`].
pub struct Asker<M> {
    raw: crate::Asker,
    question: PhantomData<fn(M)>,
}

impl<M: Question> Asker<M> {
    pub(super) fn new(raw: crate::Asker) -> Asker<M> {
        Asker {
            raw,
            question: PhantomData,
        }
    }

    fn encode(answer: &M::Answer) -> Result<Vec<u8>, SendError> {
        let mut bytes = vec![0; Postcard::len(answer)?];
        Postcard::encode(answer, &mut bytes)?;
        Ok(bytes)
    }

    /// Answers, or says at once why not. Never blocks.
    ///
    /// # Errors
    /// As [`crate::Asker::try_answer`], and [`SendError::Unencodable`].
    pub fn try_answer(&self, answer: &M::Answer) -> Result<(), SendError> {
        self.raw.try_answer(&Self::encode(answer)?)
    }

    /// Answers, waiting for room in the link. Not from within [`crate::typed::Mailbox::poll`].
    ///
    /// # Errors
    /// As [`crate::Asker::answer`], and [`SendError::Unencodable`].
    pub fn answer(&self, answer: &M::Answer) -> Result<(), SendError> {
        self.raw.answer(&Self::encode(answer)?)
    }

    /// As [`Asker::answer`], as a future.
    ///
    /// # Errors
    /// As [`Asker::answer`].
    pub async fn answer_async(&self, answer: &M::Answer) -> Result<(), SendError> {
        self.raw.answer_async(&Self::encode(answer)?).await
    }
}

impl<M> std::fmt::Debug for Asker<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.raw.fmt(f)
    }
}

//! A slot: credit and room for one message, claimed from a route; filled in place, then committed or given back.

use super::Route;
use crate::buffer::Buffer;
use crate::chunk::Chunk;
use crate::frame::Kind;
use crate::ring::{Claim, Position};
use crate::trace::Tagged;

/// Where a message stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In the ordinary lane, as one message frame.
    Ordinary,
    /// In the large lane, as one chunk.
    Large {
        /// See [`Chunk::after`].
        after: Position,
        /// See [`Chunk::tell`]: set where a short message goes behind a large one, so that the next need not.
        tell: bool,
    },
}

/// Credit and room for one message that fits a frame.
pub(crate) struct Slot<'r, T> {
    pub(super) claim: Claim<'r>,
    pub(super) place: Place,
    pub(super) route: &'r Route,
    pub(super) tags: T,
}

impl<'r, T: Tagged> Slot<'r, T> {
    #[inline]
    fn extension_len(&self) -> usize {
        match self.place {
            Place::Ordinary => self.tags.tags().len(),
            Place::Large { .. } => Chunk::extension_len(&self.tags.tags()),
        }
    }

    #[inline]
    pub(crate) fn payload(&mut self) -> &mut [u8] {
        let extension = self.extension_len();
        &mut self.claim.body()[extension..]
    }

    pub(crate) fn route(&self) -> &'r Route {
        self.route
    }

    /// Gives credit and room back: the room travels as padding.
    pub(crate) fn give_back(self) {
        let Slot { claim, route, .. } = self;
        drop(claim);
        route.give_credit_back();
        route.peer.flush();
    }

    /// Publishes the message, whose payload is the buffer's: lent, where it is long enough for the large lane.
    pub(super) fn commit_buffer(mut self, buffer: &Buffer) {
        match self.place {
            // Short enough for the ordinary lane, if only others of its mailbox were not before it in the large one.
            Place::Ordinary | Place::Large { tell: true, .. } => {
                self.payload().copy_from_slice(buffer);
                self.commit();
            }
            Place::Large { after, tell } => self.commit_chunk(after, tell, Some(buffer)),
        }
    }

    /// Publishes the message.
    #[inline(always)]
    pub(crate) fn commit(mut self) {
        match self.place {
            Place::Ordinary => {
                let tags = self.tags.tags();
                let extension = tags.len();
                if extension > 0 {
                    tags.encode(&mut self.claim.body()[..extension]);
                }
                let handle = self.route.handle;
                self.claim
                    .commit(Kind::Message, tags.flags(), extension as u8, handle);
            }
            Place::Large { after, tell } => self.commit_chunk(after, tell, None),
        }
    }

    #[cold]
    fn commit_chunk(mut self, after: Position, tell: bool, buffer: Option<&Buffer>) {
        let extension = self.extension_len();
        let tags = self.tags.tags();
        let body = self.claim.body();
        let chunk = Chunk {
            total: (body.len() - extension) as u32,
            offset: 0,
            after,
            correlation: tags.correlation,
            trace: tags.trace.copied(),
            abandoned: false,
            tell,
        };
        chunk.encode(&mut body[..extension]);
        let (flags, extension, handle) = (chunk.flags(), extension as u8, self.route.handle);
        match buffer {
            Some(buffer) => {
                let part = buffer.part(0..buffer.len());
                self.claim
                    .commit_lent(Kind::Chunk, flags, extension, handle, part);
            }
            None => self.claim.commit(Kind::Chunk, flags, extension, handle),
        }
    }
}

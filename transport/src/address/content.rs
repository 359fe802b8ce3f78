//! What a message is made of, and how it is sent where it does not simply go into the ordinary lane.

use std::sync::Arc;

use super::{Address, Route, SendError, Slot, Target, send_locally};
use crate::buffer::Buffer;
use crate::large::{LONGEST_ORDINARY, Stream};
use crate::trace::{Tagged, Tags};

/// The payload of a message.
#[derive(Clone, Copy)]
pub(super) enum Content<'m> {
    /// Bytes that are copied.
    Bytes(&'m [u8]),
    /// A buffer of the node, which may be lent to the link.
    Buffer(&'m Buffer),
}

impl<'m> Content<'m> {
    fn bytes(self) -> &'m [u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Buffer(buffer) => buffer,
        }
    }

    fn stream(self, route: &'m Arc<Route>, tags: Tags<'m>) -> Stream<'m> {
        match self {
            Content::Bytes(bytes) => Stream::new(route, bytes, tags),
            Content::Buffer(buffer) => Stream::lending(route, buffer, tags),
        }
    }

    #[inline]
    fn commit<T: Tagged>(self, mut slot: Slot<'_, T>) {
        match self {
            Content::Bytes(bytes) => {
                slot.payload().copy_from_slice(bytes);
                slot.commit();
            }
            Content::Buffer(buffer) => slot.commit_buffer(buffer),
        }
    }
}

impl Address {
    /// Sends, or says at once why not.
    pub(super) fn try_send_content(&self, content: Content<'_>, tags: impl Tagged) -> Result<(), SendError> {
        if self.commit_content(content, tags)?
            && let Target::Remote(route) = &self.target
        {
            match content.bytes().len() > LONGEST_ORDINARY {
                true => route.peer.flush_much(),
                false => route.peer.flush(),
            }
        }
        Ok(())
    }

    /// As [`Address::try_send_content`], but that it may leave the pushing to the caller: whether it does.
    pub(super) fn commit_content(&self, content: Content<'_>, tags: impl Tagged) -> Result<bool, SendError> {
        let len = content.bytes().len();
        match &self.target {
            Target::Remote(route) if route.is_streamed(len) => {
                content.stream(route, tags.tags()).send_at_once().map(|()| false)
            }
            Target::Remote(route) => match route.claim(len, tags)? {
                Some(slot) => {
                    content.commit(slot);
                    Ok(true)
                }
                None => {
                    route.drop_newest(len, tags.tags().correlation);
                    Ok(false)
                }
            },
            Target::Local(mailbox, node) => {
                send_locally(mailbox, node, content.bytes(), tags.tags()).map(|()| false)
            }
        }
    }

    /// The stream in which a message has to be sent; `None` when it fits one frame.
    pub(super) fn stream<'m>(&'m self, content: Content<'m>, tags: &'m impl Tagged) -> Option<Stream<'m>> {
        match &self.target {
            Target::Remote(route) if route.is_streamed(content.bytes().len()) => {
                Some(content.stream(route, tags.tags()))
            }
            Target::Remote(_) | Target::Local(..) => None,
        }
    }
}

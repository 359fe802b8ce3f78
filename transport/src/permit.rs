//! Permits: room in a mailbox that is reserved before the message is made, so that whoever would have to wait waits with
//! nothing in hand.

use std::sync::Arc;
use std::time::Duration;

use crate::address::{Address, SendError, Slot, Target};
use crate::dead_letter::Reason;
use crate::mailbox::{LocalDelivery, Lost, MailboxShared};
use crate::wait::Place;

/// Room for one message in a mailbox, and in the link if it is a peer's: write it in place, then send it. Dropped, it
/// gives the room back. Until then a permit for a peer's mailbox holds up what is sent after it on the same link, so write
/// soon; one for a mailbox of this node holds up nobody, and its message stands behind what was sent in the meantime.
pub struct Permit<'a> {
    room: Room<'a>,
}

enum Room<'a> {
    Peers(Slot<'a, Option<u64>>),
    /// A place that the mailbox keeps free, and the message that goes there.
    Here(&'a Arc<MailboxShared>, Vec<u8>),
    Used,
}

impl Permit<'_> {
    /// The message's bytes, zero at first.
    pub fn payload(&mut self) -> &mut [u8] {
        match &mut self.room {
            Room::Peers(slot) => slot.payload(),
            Room::Here(_, payload) => payload,
            Room::Used => &mut [],
        }
    }

    /// Sends what was written. If the mailbox or the session was closed since, it becomes a dead letter.
    pub fn send(mut self) {
        match std::mem::replace(&mut self.room, Room::Used) {
            Room::Peers(slot) => {
                let peer = &slot.route().peer;
                slot.commit();
                peer.flush();
            }
            Room::Here(mailbox, payload) => {
                if mailbox.deliver_reserved(&payload).is_err() {
                    mailbox.report(Lost {
                        reason: Reason::MailboxClosed,
                        from: None,
                        correlation: None,
                        len: payload.len(),
                        age: Some(Duration::ZERO),
                    });
                }
            }
            Room::Used => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.room, Room::Used) {
            Room::Peers(slot) => slot.give_back(),
            Room::Here(mailbox, _) => mailbox.give_place_back(),
            Room::Used => {}
        }
    }
}

impl std::fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Address {
    /// Reserves room for a message of `len` bytes to be written in place, or says at once why not. To a peer, the message
    /// has to fit one chunk: 64 KiB, or what the link's large ring allows, if that is less.
    ///
    /// # Errors
    /// As [`Address::try_send`], and [`SendError::MailboxFull`] also where the policy is to drop the newest: nothing is
    /// there yet that could be dropped.
    pub fn try_reserve(&self, len: usize) -> Result<Permit<'_>, SendError> {
        let full = || SendError::MailboxFull {
            mailbox: self.mailbox().to_owned(),
        };
        let room = match &self.target {
            Target::Remote(route) => Room::Peers(route.claim(len, None)?.ok_or_else(full)?),
            Target::Local(mailbox, _) => {
                mailbox.check_len(len)?;
                match mailbox.keep_place() {
                    LocalDelivery::Done => Room::Here(mailbox, vec![0; len]),
                    LocalDelivery::Full => return Err(full()),
                    LocalDelivery::Closed => {
                        return Err(SendError::MailboxClosed {
                            mailbox: self.mailbox().to_owned(),
                        });
                    }
                }
            }
        };
        Ok(Permit { room })
    }

    /// Reserves room for a message of `len` bytes, waiting for it if the policy is to wait: back-pressure before the
    /// message is made.
    ///
    /// # Errors
    /// As [`Address::try_reserve`], but that it waits where [`Address::send`] would.
    pub fn reserve(&self, len: usize) -> Result<Permit<'_>, SendError> {
        let mut place = Place::default();
        let waited = self.driver().wait_for(None, |waker| {
            self.attempt_with(&mut place, waker, || self.try_reserve(len))
        });
        waited.unwrap_or(Err(SendError::RingFull))
    }

    /// As [`Address::reserve`], as a future. Cancelled, it has reserved nothing.
    ///
    /// # Errors
    /// As [`Address::reserve`].
    pub async fn reserve_async(&self, len: usize) -> Result<Permit<'_>, SendError> {
        self.attempt_async(|| self.try_reserve(len)).await
    }
}

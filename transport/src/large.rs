//! Sending on the large lane: messages longer than an ordinary frame should be, in chunks, and short ones that must
//! keep their place behind such a message. See `docs/PROTOCOL.md`, "Chunks".
//!
//! A message that fits one chunk is claimed, written and committed like any other. A longer one is a [`Stream`]: it
//! goes into the ring as the peer makes room, one stream at a time for each mailbox, so that chunks of different
//! mailboxes mix and no mailbox waits for another. A stream that is dropped half-way is abandoned: the peer is told, and
//! forgets what it has of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::address::{Route, SendError};
use crate::buffer::Buffer;
use crate::chunk::{Chunk, EXTENSION, MAX_CHUNK};
use crate::frame::{HEADER, Header, Kind};
use crate::lane::Lane;
use crate::peer::PeerInner;
use crate::ring::{ClaimError, SendRing};
use crate::trace::{Tagged, Tags};
use crate::wait::{Place, WaitList, lock};

/// Messages up to this length, in bytes, go on the ordinary lane where its frames allow it. Shorter would send more
/// traffic through chunks, longer lets more of it wait behind one message.
pub(crate) const LONGEST_ORDINARY: usize = 16 << 10;

/// Chunks that one poll of a stream commits before it lets other tasks of its executor run.
const CHUNKS_PER_POLL: usize = 16;
/// Chunks of a stream that are pushed together, after the first, which is pushed at once: the link and a sleeping peer have
/// less to do. Nothing else waits for that: a push looks at the other lanes anew after each chunk.
const CHUNKS_PER_PUSH: usize = 4;

/// What the streams of one session share.
pub(crate) struct LargeLane {
    /// Those who wait for room in the ring, for a mailbox's turn, or for other messages to be complete.
    pub(crate) room: WaitList,
    /// How many bytes the messages that have begun and are not complete may have together.
    allowance: AtomicU64,
    /// How many they have.
    declared: AtomicU64,
    abandoned: Mutex<Vec<Abandoned>>,
    any_abandoned: AtomicBool,
}

/// A message that was given up while the ring had no room to say so.
struct Abandoned {
    route: Arc<Route>,
    total: u32,
    offset: u32,
}

impl LargeLane {
    pub(crate) fn new(ring: &SendRing) -> LargeLane {
        LargeLane {
            room: WaitList::default(),
            allowance: AtomicU64::new(ring.capacity()),
            declared: AtomicU64::new(0),
            abandoned: Mutex::default(),
            any_abandoned: AtomicBool::new(false),
        }
    }

    /// The peer has a mailbox that takes messages of `max` bytes.
    pub(crate) fn allow(&self, max: u32) {
        self.allowance.fetch_max(u64::from(max), Ordering::Relaxed);
    }

    fn declare(&self, total: u64) -> bool {
        let allowance = self.allowance.load(Ordering::Relaxed);
        let within = |declared: u64| Some(declared + total).filter(|sum| *sum <= allowance);
        self.declared
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, within)
            .is_ok()
    }

    /// A message is complete, or given up: its mailbox's turn goes to the next, and its length is free again. Called
    /// after its last frame was claimed, so whoever is next comes after it in the lane.
    fn finish(&self, route: &Route, total: u64) {
        self.declared.fetch_sub(total, Ordering::AcqRel);
        route.streaming.store(false, Ordering::Release);
        self.room.wake_all();
    }

    /// The ring has room again: says what could not be said before.
    pub(crate) fn made_room(&self, peer: &PeerInner) {
        self.room.wake_all();
        if self.any_abandoned.load(Ordering::Acquire) {
            self.tell_abandoned(peer);
        }
    }

    fn tell_abandoned(&self, peer: &PeerInner) {
        let mut told = false;
        let mut abandoned = lock(&self.abandoned);
        abandoned.retain(|message| {
            let claimed = commit_abandoned(peer, message);
            if claimed {
                self.finish(&message.route, u64::from(message.total));
            }
            told |= claimed;
            !claimed
        });
        self.any_abandoned.store(!abandoned.is_empty(), Ordering::Release);
        drop(abandoned);
        if told {
            peer.flush();
        }
    }

    /// The session is over.
    pub(crate) fn close(&self) {
        lock(&self.abandoned).clear();
        self.room.wake_all();
    }
}

/// Whether there was room to say that a message was given up.
fn commit_abandoned(peer: &PeerInner, message: &Abandoned) -> bool {
    let chunk = Chunk {
        total: message.total,
        offset: message.offset,
        after: 0,
        correlation: None,
        trace: None,
        abandoned: true,
        tell: false,
    };
    let len = Chunk::extension_len(&chunk.tags());
    let Ok(mut claim) = peer.send.ring(Lane::Large).claim(len) else {
        return false;
    };
    chunk.encode(claim.body());
    claim.commit(Kind::Chunk, chunk.flags(), len as u8, message.route.handle);
    true
}

/// Most bytes of a message that a chunk of this ring carries.
pub(crate) fn longest_chunk(ring: &SendRing) -> usize {
    MAX_CHUNK.min(ring.max_body() - EXTENSION - Tags::LONGEST)
}

/// Bytes of a message that each but the last of its several chunks carries: with header and extension a frame of 64 KiB, which
/// fills the packets that a device makes of it.
fn streamed_chunk(ring: &SendRing) -> usize {
    longest_chunk(ring).min(MAX_CHUNK - HEADER - EXTENSION)
}

/// The longest message that is sent without waiting half-way: half of the ring, so that it fits wherever in the ring it
/// starts, and although the peer need not have told of the last quarter that it consumed.
pub(crate) fn longest_at_once(ring: &SendRing) -> usize {
    let chunk = streamed_chunk(ring);
    let frames = ring.capacity() as usize / 2 / crate::frame::size(chunk + EXTENSION + Tags::LONGEST);
    frames * chunk
}

/// A message that goes as several chunks, on its way into the ring.
pub(crate) struct Stream<'m> {
    route: &'m Arc<Route>,
    payload: &'m [u8],
    /// Where the payload stands, if it may be lent.
    buffer: Option<&'m Buffer>,
    tags: Tags<'m>,
    /// Bytes that are in the ring.
    sent: usize,
    /// Chunks in the ring that nobody was asked to push.
    unpushed: usize,
    state: State,
    /// Where it waits.
    place: Place<'m>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Has neither its mailbox's turn nor credit.
    Waiting,
    /// Has both.
    Begun,
    /// Sent, dropped by the mailbox's policy, or failed.
    Over,
}

impl<'m> Stream<'m> {
    pub(crate) fn new(route: &'m Arc<Route>, payload: &'m [u8], tags: Tags<'m>) -> Stream<'m> {
        Stream {
            route,
            payload,
            buffer: None,
            tags: tags.understood(|| route.reads_traces()),
            sent: 0,
            unpushed: 0,
            state: State::Waiting,
            place: Place::default(),
        }
    }

    /// Of a message whose chunks may be lent. What of them is under way when the stream is over holds the buffer.
    pub(crate) fn lending(route: &'m Arc<Route>, buffer: &'m Buffer, tags: Tags<'m>) -> Stream<'m> {
        let mut stream = Stream::new(route, buffer, tags);
        stream.buffer = Some(buffer);
        stream
    }

    fn lane(&self) -> &'m LargeLane {
        &self.route.peer.large
    }

    fn ring(&self) -> &'m SendRing {
        self.route.peer.send.ring(Lane::Large)
    }

    /// Sends all of it now, or nothing.
    pub(crate) fn send_at_once(mut self) -> Result<(), SendError> {
        let (len, max) = (self.payload.len(), longest_at_once(self.ring()));
        if len > max {
            return Err(SendError::TooLongAtOnce { len, max });
        }
        let chunk = streamed_chunk(self.ring());
        let frame = crate::frame::size(chunk + Chunk::extension_len(&self.tags)) as u64;
        // All of its frames, and the padding before the end of the ring.
        let needed = (len.div_ceil(chunk) as u64 + 1) * frame;
        if needed > self.ring().room() {
            return Err(SendError::RingFull);
        }
        // Should others be quicker to take the room, what is there is abandoned.
        while !self.advance()? {}
        Ok(())
    }

    /// Sends as much as there is room for. Ready when all of it is in the ring, or none of it ever will be.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<(), SendError>> {
        let mut registered = None;
        for _ in 0..CHUNKS_PER_POLL {
            match self.advance() {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => registered = None,
                Err(error) if self.route.is_worth_waiting(&error) => {
                    self.push();
                    if registered.as_ref() == Some(&error) {
                        return Poll::Pending;
                    }
                    self.place.register_all(self.route.waits(&error), waker);
                    registered = Some(error);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.push();
        waker.wake_by_ref();
        Poll::Pending
    }

    /// Takes the next step: the turn and the credit, or one chunk. True when nothing is left to do.
    fn advance(&mut self) -> Result<bool, SendError> {
        match self.state {
            State::Waiting => self.begin()?,
            State::Begun => self.send_chunk()?,
            State::Over => {}
        }
        Ok(self.state == State::Over)
    }

    fn begin(&mut self) -> Result<(), SendError> {
        let (route, total) = (self.route, self.payload.len() as u64);
        route.check(total as usize)?;
        if route.streaming.swap(true, Ordering::Acquire) {
            return Err(SendError::RingFull);
        }
        if !self.lane().declare(total) {
            route.streaming.store(false, Ordering::Release);
            return Err(SendError::RingFull);
        }
        match route.take_credit_or_drop() {
            Ok(true) => {
                self.state = State::Begun;
                return Ok(());
            }
            Ok(false) => {
                route.drop_newest(self.payload.len(), self.tags.correlation);
                self.state = State::Over;
            }
            Err(error) => {
                self.lane().finish(route, total);
                return Err(error);
            }
        }
        self.lane().finish(route, total);
        Ok(())
    }

    fn send_chunk(&mut self) -> Result<(), SendError> {
        let (route, ring) = (self.route, self.ring());
        // Of a mailbox that was closed half-way nothing more is sent; dropping the stream tells the peer.
        route.check(self.payload.len())?;
        let left = self.payload.len() - self.sent;
        let len = left.min(streamed_chunk(ring));
        let is_last = len == left;
        let tags = if is_last { self.tags } else { Tags::default() };
        let extension = Chunk::extension_len(&tags);
        let mut claim = ring.claim(extension + len).map_err(|error| match error {
            ClaimError::Full { .. } | ClaimError::TooLarge { .. } => SendError::RingFull,
            ClaimError::Closed => route.why_closed(),
        })?;
        let chunk = Chunk {
            total: self.payload.len() as u32,
            offset: self.sent as u32,
            after: if is_last { route.keep_place(&claim) } else { 0 },
            correlation: tags.correlation,
            trace: tags.trace.copied(),
            abandoned: false,
            tell: false,
        };
        if is_last {
            self.state = State::Over;
            self.lane().finish(route, self.payload.len() as u64);
        }
        let range = self.sent..self.sent + len;
        let (head, body) = claim.body().split_at_mut(extension);
        chunk.encode(head);
        let (flags, extension) = (chunk.flags(), extension as u8);
        match self.buffer {
            Some(buffer) => {
                claim.commit_lent(Kind::Chunk, flags, extension, route.handle, buffer.part(range));
            }
            None => {
                body.copy_from_slice(&self.payload[range]);
                claim.commit(Kind::Chunk, flags, extension, route.handle);
            }
        }
        let is_first = self.sent == 0;
        self.sent += len;
        self.unpushed += 1;
        if is_first || is_last || self.unpushed == CHUNKS_PER_PUSH {
            self.push();
        }
        Ok(())
    }

    /// Has the chunks pushed that are in the ring.
    fn push(&mut self) {
        if std::mem::take(&mut self.unpushed) > 0 {
            self.route.peer.flush_much();
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.push();
        if self.state != State::Begun {
            return;
        }
        let (lane, peer) = (self.lane(), &self.route.peer);
        if self.sent == 0 {
            self.route.give_credit_back();
            lane.finish(self.route, self.payload.len() as u64);
            return;
        }
        lock(&lane.abandoned).push(Abandoned {
            route: self.route.clone(),
            total: self.payload.len() as u32,
            offset: self.sent as u32,
        });
        lane.any_abandoned.store(true, Ordering::Release);
        // Now, if there is room; otherwise once there is.
        lane.tell_abandoned(peer);
        if peer.ended().is_some() {
            lane.close();
        }
    }
}

/// A message in chunks that the peer did not acknowledge.
pub(crate) struct Unacknowledged {
    pub(crate) correlation: Option<u64>,
    pub(crate) len: usize,
    /// The message, if none of it had been acknowledged.
    pub(crate) payload: Option<Vec<u8>>,
}

/// Puts the unacknowledged chunks of a session that is over together, for the dead letters: one for each message
/// whose last chunk is among them. Of the others the sender was told when it sent.
#[derive(Default)]
pub(crate) struct Remains {
    begun: HashMap<u16, Vec<u8>>,
}

impl Remains {
    pub(crate) fn take(&mut self, header: Header, body: &[u8]) -> Option<Unacknowledged> {
        let (extension, bytes) = body.split_at(usize::from(header.extension).min(body.len()));
        let chunk = Chunk::decode(header.flags, extension, bytes.len()).ok()?;
        let is_last = chunk.is_last(bytes.len());
        if chunk.abandoned {
            self.begun.remove(&header.mailbox);
            return None;
        }
        let payload = if chunk.is_first() && is_last {
            Some(bytes.to_vec())
        } else if chunk.is_first() {
            self.begun.insert(header.mailbox, bytes.to_vec());
            None
        } else if is_last {
            let begun = self.begun.remove(&header.mailbox);
            begun.map(|begun| [&begun[..], bytes].concat())
        } else {
            if let Some(begun) = self.begun.get_mut(&header.mailbox) {
                begun.extend_from_slice(bytes);
            }
            None
        };
        is_last.then_some(Unacknowledged {
            correlation: chunk.correlation,
            len: chunk.total as usize,
            payload,
        })
    }
}

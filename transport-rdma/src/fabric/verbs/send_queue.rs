//! The send queue of a connection: what is posted, in which lists, with what flags; and what has completed.
//!
//! Every post goes through [`SendQueue::post`] under one lock, so what "posted before" means is the order of the lock.

#![allow(unsafe_code)]

use std::collections::VecDeque;

use sideway::ibverbs::queue_pair::{
    GenericQueuePair, PostSendError, PostSendGuard, QueuePair, SetInlineData, SetScatterGatherEntry,
    WorkRequestFlags,
};
use transport::lane::{LANES, Lane};
use transport::link::LinkError;
use transport::memory::RingMemory;

use super::cells;
use super::completion::Queue;
use super::device::because;
use super::gather::{self, Gather};
use super::lending::Lending;
use super::notice::Notice;
use super::region::Region;
use crate::fabric::{Lent, Request, cell};
use crate::limits;
use crate::rdma::SmallFrames;
use crate::rdma::offer::Offer;

/// One write to the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'r> {
    /// What the link asks for.
    Link(&'r Request),
    /// Tells the peer whether to wake us.
    Notify(u32),
}

impl Write<'_> {
    /// The immediate data with which it tells the peer where it ends, where the peer learns of it in that way.
    fn notice(&self, small_frames: SmallFrames) -> Option<u32> {
        match *self {
            Write::Link(&Request::Write { lane, end, .. })
                if lane == Lane::Large || small_frames == SmallFrames::Announced =>
            {
                Some(Notice::of(end).immediate(lane))
            }
            _ => None,
        }
    }

    fn lent(&self) -> Option<Lent> {
        match self {
            Write::Link(Request::Write { lent, .. }) => *lent,
            _ => None,
        }
    }

    /// Whether a peer that sleeps is left alone: another write is certain to follow.
    fn is_quiet(&self) -> bool {
        matches!(self, Write::Link(Request::Write { quiet: true, .. }))
    }

    fn is_large(&self) -> bool {
        matches!(
            self,
            Write::Link(Request::Write {
                lane: Lane::Large,
                ..
            })
        )
    }
}

/// The queue pair's sending side.
pub(crate) struct SendQueue {
    queue_pair: GenericQueuePair,
    completions: Queue,
    send: [Region; LANES],
    lending: Lending,
    peer: Offer,
    max_inline: usize,
    depth: u64,
    signal_every: u64,
    /// Work requests ever posted; the number of one is its identifier.
    posted: u64,
    /// The highest work request known to have completed; all before it have as well.
    completed: u64,
    /// The highest work request that will tell of its completion.
    signalled: u64,
    /// Writes of the large lane that are not known to have completed, oldest first.
    large: VecDeque<u64>,
    /// The peer's wish that was last obeyed, see [`super::notify`].
    obeyed: u32,
    failure: Option<String>,
}

impl SendQueue {
    /// The half of `queue_pair` that writes out of the regions `send` into those of the peer, with `depth` work requests at most.
    pub(super) fn new(
        queue_pair: GenericQueuePair,
        completions: Queue,
        send: [Region; LANES],
        lending: Lending,
        peer: Offer,
        max_inline: usize,
        depth: u32,
    ) -> SendQueue {
        SendQueue {
            queue_pair,
            completions,
            send,
            lending,
            peer,
            max_inline,
            depth: u64::from(depth),
            signal_every: u64::from((depth / limits::verbs::SIGNALS_PER_QUEUE).max(1)),
            posted: 0,
            completed: 0,
            signalled: 0,
            large: VecDeque::with_capacity(limits::verbs::LARGE_SPANS),
            obeyed: 0,
            failure: None,
        }
    }

    /// Posts a small message that is alone, if this is one, there is much room, and nobody is to be woken or told: the shortest way,
    /// for what is sent most. False where it has to go through [`SendQueue::post`].
    #[inline]
    pub(crate) fn post_alone(
        &mut self,
        request: &Request,
        peer_notify: Option<u32>,
    ) -> Result<bool, LinkError> {
        let &Request::Write {
            lane, offset, len, ..
        } = request
        else {
            return Ok(false);
        };
        let told = lane == Lane::Large || self.peer.small_frames == SmallFrames::Announced;
        let wakes = self.obeyed & super::notify::ON != 0;
        let id = self.posted + 1;
        if told
            || peer_notify.is_some()
            || wakes
            || len > self.max_inline
            || id - self.completed > self.depth / 2
        {
            return Ok(false);
        }
        let mut flags = WorkRequestFlags::Inline;
        if id >= self.signalled + self.signal_every {
            flags |= WorkRequestFlags::Signaled;
        }
        let to = &self.peer.rings[lane.index()];
        let mut guard = self.queue_pair.start_post_send();
        guard
            .construct_wr(id, flags)
            .setup_write(to.key, to.address.wrapping_add(offset as u64))
            .setup_inline_data(self.send[lane.index()].committed(offset, len));
        if let Err(error) = guard.post() {
            return self.not_posted(error).map(|()| false);
        }
        self.posted = id;
        if flags.contains(WorkRequestFlags::Signaled) {
            self.signalled = id;
        }
        Ok(true)
    }

    /// Posts the first of `writes`, as many as there is room for, in lists between those that take payloads from other memory;
    /// says how many. The last of each list carries a wake-up when the peer wants that; those that the peer learns of by
    /// notices carry them, which wake as well.
    pub(crate) fn post<'r>(
        &mut self,
        writes: impl Iterator<Item = Write<'r>> + Clone,
        peer_notify: Option<u32>,
    ) -> Result<usize, LinkError> {
        let mut posted = 0;
        loop {
            let rest = writes.clone().skip(posted);
            let taken = match rest.clone().next() {
                None => 0,
                Some(write) if write.lent().is_some() => usize::from(self.post_gathered(write)?),
                Some(_) => self.post_list(rest, peer_notify)?,
            };
            posted += taken;
            // Full, whoever posts has the device tell of room first, and looks again then.
            if taken == 0 || self.posted - self.completed == self.depth {
                return Ok(posted);
            }
        }
    }

    /// Posts a write of a frame whose payload stands in other memory, if there is room.
    fn post_gathered(&mut self, write: Write<'_>) -> Result<bool, LinkError> {
        let Write::Link(&Request::Write {
            lane,
            offset,
            len,
            lent:
                Some(Lent {
                    head,
                    memory,
                    offset: from,
                }),
            ..
        }) = write
        else {
            return Ok(false);
        };
        if !self.has_room() {
            self.reap()?;
            if !self.has_room() {
                return Ok(false);
            }
        }
        let Some(rest) = self.lending.region(memory) else {
            return Err(LinkError::Device(format!("memory {memory} is not registered")));
        };
        let (local, remote) = (&self.send[lane.index()], &self.peer.rings[lane.index()]);
        let id = self.posted + 1;
        let gather = Gather {
            pieces: [
                (local.local_key(), local.committed(offset, head)),
                (rest.local_key(), rest.committed(from, len - head)),
            ],
            address: remote.address.wrapping_add(offset as u64),
            key: remote.key,
            immediate: write.notice(self.peer.small_frames),
            wakes: !write.is_quiet(),
        };
        // The queue pair lives as long as this.
        if !gather::post(&self.queue_pair, id, &gather)? {
            self.reap()?;
            return Ok(false);
        }
        (self.posted, self.signalled) = (id, id);
        self.large.push_back(id);
        self.lending.used(memory, id);
        Ok(true)
    }

    /// How many of the first of `writes` go in one list: those before one that takes its payload from other memory, as far as
    /// there is room.
    fn listed<'r>(&self, writes: impl Iterator<Item = Write<'r>>) -> u64 {
        let room = self.depth - (self.posted - self.completed);
        let mut large_room = limits::verbs::LARGE_SPANS - self.large.len();
        let mut listed = 0;
        for write in writes {
            if listed == room || write.lent().is_some() || write.is_large() && large_room == 0 {
                break;
            }
            large_room -= usize::from(write.is_large());
            listed += 1;
        }
        listed
    }

    /// Posts the first of `writes` as one list. Says how many: none where there is no room.
    fn post_list<'r>(
        &mut self,
        writes: impl Iterator<Item = Write<'r>> + Clone,
        peer_notify: Option<u32>,
    ) -> Result<usize, LinkError> {
        if self.posted - self.completed > self.depth / 2 || self.large.len() == limits::verbs::LARGE_SPANS {
            self.reap()?;
        }
        let taken = self.listed(writes.clone());
        if taken == 0 {
            return Ok(0);
        }
        let notify = peer_notify.unwrap_or(self.obeyed);
        let wish = (notify & super::notify::ON != 0).then_some(notify);
        let mut obeyed = notify;
        let full_at = self.completed + self.depth;
        let mut signalled = self.signalled;

        let mut id = self.posted;
        let last = id + taken;
        let mut guard = self.queue_pair.start_post_send();
        for write in writes.take(taken as usize) {
            id += 1;
            let is_last = id == last;
            let mut flags = WorkRequestFlags::none();
            let notice = write.notice(self.peer.small_frames);
            if id >= signalled + self.signal_every || id == full_at || write.is_large() {
                flags |= WorkRequestFlags::Signaled;
                signalled = id;
            }
            if write.is_large() {
                self.large.push_back(id);
            }
            if notice.is_some() && is_last && wish.is_some() {
                // The completion wakes the peer, but does not tell it that its wish is known.
                obeyed = self.obeyed;
            }
            let immediate = notice.or(wish.filter(|_| is_last)).map(u32::to_be);
            // The last of several also wakes for those before it, which may have no notices of their own.
            let is_quiet = write.is_quiet() && (taken == 1 || !is_last);
            if immediate.is_some() && !is_quiet {
                flags |= WorkRequestFlags::Solicited;
            }
            let cell;
            // What is short enough goes inline; the rest the device reads out of a region.
            let (to, offset, bytes, region) = match write {
                Write::Link(&Request::Write {
                    lane, offset, len, ..
                }) => {
                    let ring = &self.send[lane.index()];
                    let region = (len > self.max_inline).then_some(ring);
                    let to = &self.peer.rings[lane.index()];
                    (to, offset, ring.committed(offset, len), region)
                }
                Write::Link(&Request::Acknowledge { lane, position }) => {
                    cell = cell::encode(position);
                    (&self.peer.cells, cells::acknowledgement(lane), &cell[..], None)
                }
                Write::Notify(wish) => {
                    cell = cell::encode(u64::from(wish));
                    (&self.peer.cells, cells::WISH, &cell[..], None)
                }
            };
            if region.is_none() {
                flags |= WorkRequestFlags::Inline;
            }
            let address = to.address.wrapping_add(offset as u64);
            let request = guard.construct_wr(id, flags);
            let request = match immediate {
                None => request.setup_write(to.key, address),
                Some(immediate) => request.setup_write_imm(to.key, address, immediate),
            };
            match region {
                None => request.setup_inline_data(bytes),
                // SAFETY: the bytes lie in this region, which outlives the queue pair, and they are not written to before the
                // peer has acknowledged them.
                Some(region) => unsafe {
                    request.setup_sge(region.local_key(), bytes.as_ptr() as u64, bytes.len() as u32);
                },
            }
        }
        match guard.post() {
            Ok(()) => {
                self.posted = last;
                self.signalled = signalled;
                self.obeyed = obeyed;
                Ok(taken as usize)
            }
            Err(error) => self.not_posted(error).map(|()| 0),
        }
    }

    /// A list was taken back as a whole. Where that was for want of room, completions make some; until then the caller waits.
    #[cold]
    fn not_posted(&mut self, error: PostSendError) -> Result<(), LinkError> {
        self.large.retain(|id| *id <= self.posted);
        self.reap()?;
        match error {
            PostSendError::NotEnoughResources(_) => Ok(()),
            error => Err(LinkError::Device(format!(
                "a work request is refused: {}",
                because(&error)
            ))),
        }
    }

    /// Takes in completions. The first that failed is the reason why the link is dead.
    pub(crate) fn reap(&mut self) -> Result<(), LinkError> {
        let SendQueue {
            completions,
            completed,
            posted,
            failure,
            large,
            ..
        } = self;
        completions.poll(|completion| {
            if completion.succeeded() {
                *completed = completion.id.clamp(*completed, *posted);
            } else if failure.is_none() || !completion.was_flushed() {
                *failure = Some(completion.failure());
            }
        })?;
        while large.front().is_some_and(|id| *id <= *completed) {
            large.pop_front();
        }
        match failure {
            None => Ok(()),
            Some(reason) => Err(LinkError::Device(reason.clone())),
        }
    }

    /// Makes memory beside the rings known to the device: see [`crate::fabric::Outbound::lend`].
    pub(crate) fn lend(&mut self, memory: &RingMemory) -> Option<usize> {
        self.lending.lend(memory, self.completed)
    }

    /// Whether a post would find room, for the large lane too.
    pub(crate) fn has_room(&self) -> bool {
        self.posted - self.completed < self.depth && self.large.len() < limits::verbs::LARGE_SPANS
    }

    /// The peer's wish that the last post kept to.
    pub(crate) fn obeyed(&self) -> u32 {
        self.obeyed
    }

    /// Keeps to a wish not to be woken any more; that needs no write.
    pub(crate) fn obey(&mut self, notify: u32) {
        self.obeyed = notify;
    }
}

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

use super::completion::Queue;
use super::connection::NOTIFY;
use super::device::because;
use super::gather::{self, Gather};
use super::lending::Lending;
use super::notice::Notice;
use super::region::Region;
use crate::fabric::{Lent, Request, cell};
use crate::limits::{self, CELL};
use crate::rdma::SmallFrames;
use crate::rdma::offer::Offer;

/// One write to the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    /// What the link asks for.
    Link(Request),
    /// Tells the peer whether to wake us.
    Notify(u32),
}

impl Write {
    /// The immediate data with which it tells the peer where it ends, where the peer learns of it in that way.
    fn notice(&self, small_frames: SmallFrames) -> Option<u32> {
        match *self {
            Write::Link(Request::Write { lane, end, .. })
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
    pub(super) queue_pair: GenericQueuePair,
    pub(super) completions: Queue,
    pub(super) send: [Region; LANES],
    pub(super) lending: Lending,
    pub(super) peer: Offer,
    pub(super) max_inline: usize,
    pub(super) depth: u64,
    pub(super) signal_every: u64,
    /// Work requests ever posted; the number of one is its identifier.
    pub(super) posted: u64,
    /// The highest work request known to have completed; all before it have as well.
    pub(super) completed: u64,
    /// The highest work request that will tell of its completion.
    pub(super) signalled: u64,
    /// Writes of the large lane that are not known to have completed, oldest first.
    pub(super) large: VecDeque<u64>,
    /// The peer's wish that was last obeyed, see [`super::notify`].
    pub(super) obeyed: u32,
    pub(super) failure: Option<String>,
}

impl SendQueue {
    /// Posts the first of `writes`, as many as there is room for, in lists between those that take payloads from other memory;
    /// says how many. The last of each list carries a wake-up when the peer wants that; those that the peer learns of by
    /// notices carry them, which wake as well.
    pub(crate) fn post(
        &mut self,
        writes: impl ExactSizeIterator<Item = Write> + Clone,
        peer_notify: Option<u32>,
    ) -> Result<usize, LinkError> {
        if writes.clone().all(|write| write.lent().is_none()) {
            return self.post_list(writes, peer_notify);
        }
        let mut posted = 0;
        loop {
            let mut rest = writes.clone().skip(posted);
            let listed = rest.clone().take_while(|write| write.lent().is_none()).count();
            let (wanted, taken) = match rest.next() {
                None => return Ok(posted),
                Some(write) if listed == 0 => (1, usize::from(self.post_gathered(write)?)),
                Some(_) => {
                    let list = writes.clone().skip(posted).take(listed);
                    (listed, self.post_list(list, peer_notify)?)
                }
            };
            posted += taken;
            if taken < wanted {
                return Ok(posted);
            }
        }
    }

    /// Posts a write of a frame whose payload stands in other memory, if there is room.
    fn post_gathered(&mut self, write: Write) -> Result<bool, LinkError> {
        let Write::Link(Request::Write {
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

    fn post_list(
        &mut self,
        writes: impl ExactSizeIterator<Item = Write> + Clone,
        peer_notify: Option<u32>,
    ) -> Result<usize, LinkError> {
        let wanted = writes.len() as u64;
        if self.depth - (self.posted - self.completed) < wanted.max(self.depth / 2)
            || self.large.len() == limits::verbs::LARGE_SPANS
        {
            self.reap()?;
        }
        let room = self.depth - (self.posted - self.completed);
        let large_room = limits::verbs::LARGE_SPANS - self.large.len();
        let mut large = writes
            .clone()
            .enumerate()
            .filter(|(_, write)| write.is_large())
            .map(|(index, _)| index as u64);
        let taken = wanted.min(room).min(large.nth(large_room).unwrap_or(wanted));
        if taken == 0 {
            return Ok(0);
        }
        let notify = peer_notify.unwrap_or(self.obeyed);
        let wish = (notify & super::notify::ON != 0).then_some(notify);
        let mut obeyed = notify;
        let full_at = self.completed + self.depth;
        let mut signalled = self.signalled;

        let mut guard = self.queue_pair.start_post_send();
        for (index, write) in writes.take(taken as usize).enumerate() {
            let id = self.posted + index as u64 + 1;
            let mut flags = WorkRequestFlags::none();
            let notice = write.notice(self.peer.small_frames);
            if id >= signalled + self.signal_every || id == full_at || write.is_large() {
                flags |= WorkRequestFlags::Signaled;
                signalled = id;
            }
            let is_last = index as u64 + 1 == taken;
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
            match write {
                Write::Link(Request::Write {
                    lane, offset, len, ..
                }) => {
                    let (local, remote) = (&self.send[lane.index()], &self.peer.rings[lane.index()]);
                    let address = remote.address.wrapping_add(offset as u64);
                    let bytes = local.committed(offset, len);
                    if len <= self.max_inline {
                        let request = guard.construct_wr(id, flags | WorkRequestFlags::Inline);
                        match immediate {
                            None => request.setup_write(remote.key, address),
                            Some(immediate) => request.setup_write_imm(remote.key, address, immediate),
                        }
                        .setup_inline_data(bytes);
                    } else {
                        let request = guard.construct_wr(id, flags);
                        let buffer = match immediate {
                            None => request.setup_write(remote.key, address),
                            Some(immediate) => request.setup_write_imm(remote.key, address, immediate),
                        };
                        // SAFETY: the bytes lie in a registered region that outlives the queue pair, and they are
                        // not written to before the peer has acknowledged them.
                        unsafe { buffer.setup_sge(local.local_key(), bytes.as_ptr() as u64, len as u32) };
                    }
                }
                Write::Link(Request::Acknowledge { .. }) | Write::Notify(_) => {
                    let (cell, value) = match write {
                        Write::Link(Request::Acknowledge { lane, position }) => (lane.index(), position),
                        Write::Notify(value) => (NOTIFY, u64::from(value)),
                        Write::Link(Request::Write { .. }) => continue,
                    };
                    let address = self.peer.cells.address.wrapping_add((cell * CELL) as u64);
                    let request = guard.construct_wr(id, flags | WorkRequestFlags::Inline);
                    match immediate {
                        None => request.setup_write(self.peer.cells.key, address),
                        Some(immediate) => request.setup_write_imm(self.peer.cells.key, address, immediate),
                    }
                    .setup_inline_data(&cell::encode(value));
                }
            }
        }
        match guard.post() {
            Ok(()) => {
                self.posted += taken;
                self.signalled = signalled;
                self.obeyed = obeyed;
                Ok(taken as usize)
            }
            // The whole list was taken back. Completions make room; until then the caller waits.
            Err(PostSendError::NotEnoughResources(_)) => {
                self.large.retain(|id| *id <= self.posted);
                self.reap()?;
                Ok(0)
            }
            Err(error) => {
                self.reap()?;
                Err(LinkError::Device(format!(
                    "a work request is refused: {}",
                    because(&error)
                )))
            }
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

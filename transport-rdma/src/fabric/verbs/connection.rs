//! A reliable connection: the queue pair, its two queues, and the regions at both ends.
//!
//! Every post goes through [`SendQueue::post`] under one lock, so what "posted before" means is the order of the lock.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdma_mummy_sys::{ibv_post_recv, ibv_qp, ibv_recv_wr};
use sideway::ibverbs::AccessFlags;
use sideway::ibverbs::address::{AddressHandleAttribute, Gid};
use sideway::ibverbs::device_context::Mtu;
use sideway::ibverbs::queue_pair::{
    GenericQueuePair, PostSendError, PostSendGuard, QueuePair, QueuePairAttribute, QueuePairState,
    SetInlineData, SetScatterGatherEntry, WorkRequestFlags,
};
use transport::lane::{LANES, Lane};
use transport::link::{LaneMemory, LinkError};
use transport::memory::RingMemory;

use super::completion::{Channel, Completion, Queue};
use super::device::{Device, because};
use super::gather::{self, Gather};
use super::lending::Lending;
use super::notice::Notice;
use super::region::{Access, Region};
use crate::fabric::{Lent, Request, cell};
use crate::limits::{self, CELL};
use crate::rdma::SmallFrames;
use crate::rdma::offer::Offer;

/// Cells of a page: the peer's acknowledgements by lane, then its wish to be woken.
const CELLS: usize = LANES + 1;
const NOTIFY: usize = LANES;
/// Bytes of a page of cells.
pub(crate) const CELL_PAGE: usize = 4096;

const _: () = assert!(CELLS * CELL <= CELL_PAGE);

/// A connection that waits for the peer's offer.
pub(crate) struct Prepared {
    device: Arc<Device>,
    queue_pair: GenericQueuePair,
    send_queue: Queue,
    receive_queue: Queue,
    channel: Channel,
    receive: [Region; LANES],
    cells: Region,
    packet_number: u32,
    depth: u32,
    receives: ReceiveRequests,
    max_inline: usize,
    domain: Arc<sideway::ibverbs::protection_domain::ProtectionDomain>,
}

impl Prepared {
    /// Opens a queue pair whose peer may write into these rings and into a page of cells, and nowhere else: it has a
    /// protection domain of its own, so that a guessed key of another connection opens nothing.
    pub(crate) fn new(device: &Arc<Device>, rings: &LaneMemory) -> Result<Prepared, LinkError> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            LinkError::Device(format!("{}: no {what}: {}", device.name, because(error)))
        };
        let domain = device
            .context
            .alloc_pd()
            .map_err(|error| failed("protection domain", &error))?;
        let receive = |lane: Lane| Region::register(&domain, &rings[lane.index()], Access::RemoteWrite);
        let receive = [
            receive(Lane::Control)?,
            receive(Lane::Ordinary)?,
            receive(Lane::Large)?,
        ];
        let cells = Region::register(&domain, &RingMemory::anonymous(CELL_PAGE)?, Access::RemoteWrite)?;

        let depth = device.send_depth;
        let receive_depth = limits::verbs::RECEIVE_DEPTH.min(device.max_work_requests);
        let channel = Channel::new(&device.context)?;
        let send_queue = channel.queue(device, depth + 1)?;
        let receive_queue = channel.queue(device, receive_depth + 1)?;

        let mut builder = domain.create_qp_builder();
        builder
            .setup_max_send_wr(depth)
            .setup_max_send_sge(2)
            .setup_max_recv_wr(receive_depth)
            .setup_send_cq(send_queue.handle())
            .setup_recv_cq(receive_queue.handle());
        let mut last = None;
        let made = limits::verbs::INLINE.into_iter().find_map(|inline| {
            builder.setup_max_inline_data(inline);
            match builder.build_ex() {
                Ok(made) => Some((GenericQueuePair::from(made), inline)),
                // Providers without the extended interface.
                Err(_) => match builder.build() {
                    Ok(made) => Some((GenericQueuePair::from(made), inline)),
                    Err(error) => {
                        last = Some(error);
                        None
                    }
                },
            }
        });
        let (mut queue_pair, max_inline) = match (made, last) {
            (Some(made), _) => made,
            (None, Some(error)) => return Err(failed("queue pair", &error)),
            (None, None) => return Err(LinkError::Device("no queue pair".into())),
        };

        let mut init = QueuePairAttribute::new();
        init.setup_state(QueuePairState::Init)
            .setup_pkey_index(0)
            .setup_port(device.port)
            .setup_access_flags(AccessFlags::LocalWrite | AccessFlags::RemoteWrite);
        queue_pair
            .modify(&init)
            .map_err(|error| failed("queue pair on this port", &error))?;

        let mut random = [0; 4];
        getrandom::fill(&mut random)
            .map_err(|error| LinkError::Device(format!("no random number: {error}")))?;
        // SAFETY: the handle is used only while the queue pair lives: both end with the connection.
        let raw = unsafe { queue_pair.qp() };
        let mut receives = ReceiveRequests {
            raw,
            spent: receive_depth,
        };
        receives.replenish(1)?;
        Ok(Prepared {
            device: device.clone(),
            queue_pair,
            send_queue,
            receive_queue,
            channel,
            receive,
            cells,
            packet_number: u32::from_le_bytes(random) & 0xff_ffff,
            depth,
            receives,
            max_inline: max_inline as usize,
            domain,
        })
    }

    pub(crate) fn offer(&self) -> Offer {
        Offer {
            mtu: self.device.mtu as u8,
            lid: self.device.lid,
            queue_pair: self.queue_pair.qp_number(),
            packet_number: self.packet_number,
            small_frames: self.device.small_frames,
            gid: self.device.gid.raw,
            cells: self.cells.remote(),
            rings: std::array::from_fn(|lane| self.receive[lane].remote()),
        }
    }

    /// Connects to the peer's queue pair. From here on it may write, and so may this side when the peer has done the
    /// same.
    pub(crate) fn connect(
        self,
        send: &LaneMemory,
        peer: Offer,
    ) -> Result<(Arc<Connection>, Receives), LinkError> {
        let Prepared {
            device,
            mut queue_pair,
            send_queue,
            receive_queue,
            channel,
            receive,
            cells,
            packet_number,
            depth,
            receives,
            max_inline,
            domain,
        } = self;
        let local = |lane: Lane| Region::register(&domain, &send[lane.index()], Access::Local);
        let send = [local(Lane::Control)?, local(Lane::Ordinary)?, local(Lane::Large)?];
        let refused = |step: &str, error: &dyn std::error::Error| {
            LinkError::Device(format!(
                "{}: the queue pair can't be made ready to {step}: {}. Do both ends have a route to each other on this \
                 device (GID {} here, {} there)?",
                device.name,
                because(error),
                device.gid,
                Gid { raw: peer.gid }
            ))
        };
        let mut path = AddressHandleAttribute::new();
        path.setup_port(device.port).setup_dest_lid(peer.lid);
        if device.routed {
            path.setup_grh(&Gid { raw: peer.gid }, 0, device.gid_index, 64, 0);
        }
        let mtu = mtu((device.mtu as u8).min(peer.mtu));
        let mut ready_to_receive = QueuePairAttribute::new();
        ready_to_receive
            .setup_state(QueuePairState::ReadyToReceive)
            .setup_path_mtu(mtu)
            .setup_dest_qp_num(peer.queue_pair)
            .setup_rq_psn(peer.packet_number)
            .setup_max_dest_read_atomic(1)
            .setup_min_rnr_timer(limits::verbs::RNR_TIMER)
            .setup_address_vector(&path);
        queue_pair
            .modify(&ready_to_receive)
            .map_err(|error| refused("receive", &error))?;
        let mut ready_to_send = QueuePairAttribute::new();
        ready_to_send
            .setup_state(QueuePairState::ReadyToSend)
            .setup_timeout(limits::verbs::TIMEOUT)
            .setup_retry_cnt(limits::verbs::RETRIES)
            .setup_rnr_retry(limits::verbs::RNR_RETRIES)
            .setup_sq_psn(packet_number)
            .setup_max_read_atomic(1);
        queue_pair
            .modify(&ready_to_send)
            .map_err(|error| refused("send", &error))?;

        let connection = Arc::new(Connection {
            send: Mutex::new(SendQueue {
                queue_pair,
                completions: send_queue.clone(),
                send,
                lending: Lending::new(domain),
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
            }),
            blocked: AtomicBool::new(false),
            description: format!(
                "{} port {} GID {} ({}), MTU {}, {max_inline} bytes inline, {depth} work requests; {}",
                device.name,
                device.port,
                device.gid_index,
                device.gid,
                128u32 << mtu as u32,
                match device.small_frames {
                    SmallFrames::Polled =>
                        "frames are seen by polling memory and prove themselves by their checksums, those of the large \
                         lane by completions",
                    SmallFrames::Announced => "frames are seen by completions",
                },
            ),
            _receive: receive,
            cells,
            send_completions: send_queue,
            device,
        });
        let receives = Receives {
            requests: receives,
            completions: receive_queue,
            channel,
            _connection: connection.clone(),
        };
        Ok((connection, receives))
    }
}

fn mtu(number: u8) -> Mtu {
    match number {
        1 => Mtu::Mtu256,
        2 => Mtu::Mtu512,
        3 => Mtu::Mtu1024,
        4 => Mtu::Mtu2048,
        _ => Mtu::Mtu4096,
    }
}

/// What both halves of a link share. Fields are dropped in order: first the queue pair, after which the device
/// writes nothing more, then the regions.
pub(crate) struct Connection {
    send: Mutex<SendQueue>,
    _receive: [Region; LANES],
    cells: Region,
    send_completions: Queue,
    /// Whether a push found no room, so that room is worth waking up for.
    blocked: AtomicBool,
    description: String,
    device: Arc<Device>,
}

impl Connection {
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Fails once the device is of no more use.
    pub(crate) fn check_device(&self) -> Result<(), LinkError> {
        self.device.check()
    }

    /// The send queue. Held for one post, never while waiting for anything.
    pub(crate) fn send_queue(&self) -> MutexGuard<'_, SendQueue> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The send queue, unless the other half of the link posts right now.
    pub(crate) fn try_send_queue(&self) -> Option<MutexGuard<'_, SendQueue>> {
        self.send.try_lock().ok()
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// What the peer has acknowledged of a lane, if that is something else than `known`.
    #[inline]
    pub(crate) fn credit(&self, lane: Lane, known: u64) -> Option<u64> {
        cell::changed(self.cells.memory(), lane.index() * CELL, known)
    }

    /// What the peer last said of whether it wants to be woken, if that is something else than `known`.
    #[inline]
    pub(crate) fn peer_notify(&self, known: u32) -> Option<u32> {
        cell::changed(self.cells.memory(), NOTIFY * CELL, u64::from(known)).map(|value| value as u32)
    }

    /// Asks for an event when work requests complete.
    pub(crate) fn arm_send_completions(&self) -> Result<(), LinkError> {
        self.send_completions.arm()
    }
}

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

/// Empty receive work requests, of which each write with immediate data takes one.
struct ReceiveRequests {
    raw: NonNull<ibv_qp>,
    /// How many of the queue's are not posted.
    spent: u32,
}

// SAFETY: libibverbs lets any thread post to a queue pair; the pointer is only followed while the queue pair lives.
unsafe impl Send for ReceiveRequests {}

impl ReceiveRequests {
    /// Posts those that are spent, once there are `at_least` so many.
    fn replenish(&mut self, at_least: u32) -> Result<(), LinkError> {
        const AT_ONCE: usize = 32;
        if self.spent < at_least {
            return Ok(());
        }
        while self.spent > 0 {
            let count = (self.spent as usize).min(AT_ONCE);
            let none = ibv_recv_wr {
                wr_id: 0,
                next: null_mut(),
                sg_list: null_mut(),
                num_sge: 0,
            };
            let mut requests = [none; AT_ONCE];
            let list = requests.as_mut_ptr();
            let mut bad = null_mut();
            // SAFETY: the list is chained inside the array and read only during the call; the queue pair lives.
            let refused = unsafe {
                for index in 1..count {
                    (*list.add(index - 1)).next = list.add(index);
                }
                ibv_post_recv(self.raw.as_ptr(), list, &mut bad)
            };
            if refused != 0 {
                return Err(LinkError::Device(format!(
                    "no receive work request is taken: error {refused}"
                )));
            }
            self.spent -= count as u32;
        }
        Ok(())
    }
}

/// The queue pair's receiving side: wake-ups.
pub(crate) struct Receives {
    requests: ReceiveRequests,
    completions: Queue,
    channel: Channel,
    /// The queue pair must outlive the requests' pointer to it.
    _connection: Arc<Connection>,
}

impl Receives {
    /// Hands out the immediate data of the writes that have come with some.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(u32)) -> Result<(), LinkError> {
        let mut spent = 0;
        let mut failed: Option<Completion> = None;
        self.completions.poll(|completion| {
            spent += 1;
            if completion.succeeded() {
                each(completion.immediate());
            } else {
                failed = failed.or(Some(completion));
            }
        })?;
        if let Some(completion) = failed {
            return Err(LinkError::Device(completion.failure()));
        }
        if spent > 0 {
            self.requests.spent += spent;
            self.requests.replenish(limits::verbs::RECEIVE_DEPTH / 8)?;
        }
        Ok(())
    }

    pub(crate) fn arm(&self) -> Result<(), LinkError> {
        self.completions.arm()
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }
}

//! A reliable connection: how it is made, the regions at both ends, and what both halves of a link ask of it.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sideway::ibverbs::AccessFlags;
use sideway::ibverbs::address::{AddressHandleAttribute, Gid};
use sideway::ibverbs::device_context::Mtu;
use sideway::ibverbs::queue_pair::{GenericQueuePair, QueuePair, QueuePairAttribute, QueuePairState};
use transport::lane::{LANES, Lane};
use transport::link::{LaneMemory, LinkError};
use transport::memory::RingMemory;

use super::completion::{Channel, Event, Queue};
use super::device::{Device, because};
use super::lending::Lending;
use super::receives::{ReceiveRequests, Receives};
use super::region::{Access, Region};
use super::send_queue::SendQueue;
use crate::fabric::cell;
use crate::limits::{self, CELL};
use crate::rdma::SmallFrames;
use crate::rdma::offer::Offer;

/// Cells of a page: the peer's acknowledgements by lane, then its wish to be woken.
const CELLS: usize = LANES + 1;
pub(super) const NOTIFY: usize = LANES;
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
        self.send_completions.arm(Event::Any)
    }
}

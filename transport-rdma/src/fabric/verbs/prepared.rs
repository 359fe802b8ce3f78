//! How a connection is made: a queue pair and regions first, then what the peer offers.

#![allow(unsafe_code)]

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use sideway::ibverbs::AccessFlags;
use sideway::ibverbs::address::{AddressHandleAttribute, Gid};
use sideway::ibverbs::device_context::Mtu;
use sideway::ibverbs::queue_pair::{
    CreateQueuePairError, GenericQueuePair, QueuePair, QueuePairAttribute, QueuePairBuilder, QueuePairState,
};
use transport::lane::{LANES, Lane};
use transport::link::{LaneMemory, LinkError};
use transport::memory::RingMemory;

use super::cells;
use super::completion::{Channel, Queue};
use super::connection::Connection;
use super::device::{Device, because};
use super::lending::Lending;
use super::receives::{ReceiveRequests, Receives};
use super::region::{Access, Region};
use super::send_queue::SendQueue;
use crate::limits;
use crate::rdma::SmallFrames;
use crate::rdma::offer::Offer;

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
        let cells = Region::register(&domain, &RingMemory::anonymous(cells::PAGE)?, Access::RemoteWrite)?;

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
        let (mut queue_pair, max_inline) =
            build(&mut builder).map_err(|error| failed("queue pair", &error))?;

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

        let lending = Lending::new(domain);
        let send_half = SendQueue::new(
            queue_pair,
            send_queue.clone(),
            send,
            lending,
            peer,
            max_inline,
            depth,
        );
        let connection = Arc::new(Connection {
            send: Mutex::new(send_half),
            blocked: AtomicBool::new(false),
            description: describe(&device, mtu, max_inline, depth),
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

/// A queue pair with as many bytes inline as the device takes, and how many those are.
fn build(builder: &mut QueuePairBuilder) -> Result<(GenericQueuePair, u32), CreateQueuePairError> {
    let mut build_with = |inline| {
        builder.setup_max_inline_data(inline);
        let queue_pair = match builder.build_ex() {
            Ok(made) => GenericQueuePair::from(made),
            // Providers without the extended interface.
            Err(_) => GenericQueuePair::from(builder.build()?),
        };
        Ok((queue_pair, inline))
    };
    let [more @ .., least] = limits::verbs::INLINE;
    let made = more.into_iter().find_map(|inline| build_with(inline).ok());
    made.map_or_else(|| build_with(least), Ok)
}

fn describe(device: &Device, mtu: Mtu, max_inline: usize, depth: u32) -> String {
    format!(
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
    )
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

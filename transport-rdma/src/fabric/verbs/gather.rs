//! A write of two pieces of memory that lie together at the peer: the head of a frame, out of the ring, and its payload.
//!
//! It goes through `ibv_post_send`. The newer interface (`ibv_wr_set_sge_list`), as rdma-core 44 has it for soft-RoCE, takes the
//! first piece's length for that of every piece, so that the peer gets a few bytes of the payload and no error is seen.

#![allow(unsafe_code)]

use std::mem::zeroed;
use std::ptr::null_mut;

use rdma_mummy_sys::{ibv_post_send, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode};
use rustix::io::Errno;
use sideway::ibverbs::queue_pair::{GenericQueuePair, QueuePair};
use transport::link::LinkError;

/// One such write.
pub(super) struct Gather<'m> {
    /// What is written, in its order, each with the key of the region that it lies in.
    pub(super) pieces: [(u32, &'m [u8]); 2],
    /// Where at the peer.
    pub(super) address: u64,
    /// The key of the peer's region.
    pub(super) key: u32,
    /// Immediate data.
    pub(super) immediate: Option<u32>,
    /// Whether its arrival wakes a peer that sleeps.
    pub(super) wakes: bool,
}

/// Posts it, to tell of its completion. False when the queue is full.
pub(super) fn post(queue_pair: &GenericQueuePair, id: u64, gather: &Gather<'_>) -> Result<bool, LinkError> {
    let mut pieces = gather.pieces.map(|(lkey, bytes)| ibv_sge {
        addr: bytes.as_ptr() as u64,
        length: bytes.len() as u32,
        lkey,
    });
    // SAFETY: a C structure of numbers, pointers that may be null, and unions of those.
    let mut request: ibv_send_wr = unsafe { zeroed() };
    request.wr_id = id;
    request.sg_list = pieces.as_mut_ptr();
    request.num_sge = pieces.len() as i32;
    request.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
    if gather.wakes {
        request.send_flags |= ibv_send_flags::IBV_SEND_SOLICITED.0;
    }
    request.opcode = match gather.immediate {
        None => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
        Some(_) => ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM,
    };
    request.imm_data_invalidated_rkey_union.imm_data = gather.immediate.map_or(0, u32::to_be);
    request.wr.rdma.remote_addr = gather.address;
    request.wr.rdma.rkey = gather.key;
    let mut bad = null_mut();
    // SAFETY: the queue pair is alive while it is borrowed, and locks itself against posts of other threads. The request and the
    // list are read during the call alone; what they name lies in registered regions that outlive the request, and is not
    // written to before the peer has acknowledged it: committed bytes of the ring, and a part of a buffer that is held.
    let refused = unsafe { ibv_post_send(queue_pair.qp().as_ptr(), &mut request, &mut bad) };
    match refused {
        0 => Ok(true),
        error if error == Errno::NOMEM.raw_os_error() => Ok(false),
        error => Err(LinkError::Device(format!(
            "a work request is refused: error {error}"
        ))),
    }
}

//! Completion queues, and the channel that tells a sleeper of them.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdma_mummy_sys::{ibv_ack_cq_events, ibv_get_cq_event, ibv_poll_cq, ibv_req_notify_cq, ibv_wc};
use sideway::ibverbs::completion::{
    BasicCompletionQueue, CompletionChannel, CompletionQueue, GenericCompletionQueue,
};
use sideway::ibverbs::device_context::DeviceContext;
use transport::link::LinkError;

use super::counts::Counts;
use super::device::{Device, because};

/// Tells of completions through a descriptor. Both queues of a connection share one.
pub(super) struct Channel {
    channel: Arc<CompletionChannel>,
}

/// A queue of completions.
#[derive(Clone)]
pub(super) struct Queue {
    queue: Arc<BasicCompletionQueue>,
    counts: Arc<Counts>,
}

/// Which completions make an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Every one.
    Any,
    /// Of a receive whose sender asked for it (`IBV_SEND_SOLICITED`), and every failure.
    Solicited,
}

/// One work request that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) id: u64,
    /// Zero for success.
    pub(super) status: u32,
    immediate: u32,
}

impl Channel {
    pub(super) fn new(context: &Arc<DeviceContext>) -> Result<Channel, LinkError> {
        let failed = |reason: String| LinkError::Device(format!("no completion channel: {reason}"));
        let channel = context
            .create_comp_channel()
            .map_err(|error| failed(because(&error)))?;
        channel
            .set_nonblocking(true)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Channel { channel })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the channel, which lives as long as this borrow.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_raw_fd()) }
    }

    /// A queue with room for so many completions.
    pub(super) fn queue(&self, device: &Device, depth: u32) -> Result<Queue, LinkError> {
        let mut builder = device.context.create_cq_builder();
        builder.setup_cqe(depth).setup_comp_channel(&self.channel, 0);
        // Not the extended interface: through it, the rxe provider of rdma-core 44 hands out completions twice.
        let queue = builder.build().map_err(|error| {
            LinkError::Device(format!(
                "no completion queue of {depth} entries: {}",
                because(&error)
            ))
        })?;
        Ok(Queue {
            queue,
            counts: device.counts.clone(),
        })
    }

    /// Takes the events that are there. Each must be acknowledged before its queue can be destroyed.
    pub(super) fn drain(&self) {
        let mut queue = null_mut();
        let mut context = null_mut();
        // SAFETY: the channel is alive and nonblocking; the call fills both pointers when it returns zero, and the
        // queue it names lives, since the connection owns queues and channel together.
        unsafe {
            while ibv_get_cq_event(self.channel.comp_channel().as_ptr(), &mut queue, &mut context) == 0 {
                ibv_ack_cq_events(queue, 1);
            }
        }
    }
}

impl Queue {
    pub(super) fn handle(&self) -> GenericCompletionQueue {
        GenericCompletionQueue::from(self.queue.clone())
    }

    /// Asks for an event at the next completion of this kind, also one that has come since the last poll began.
    pub(super) fn arm(&self, at: Event) -> Result<(), LinkError> {
        let solicited = i32::from(at == Event::Solicited);
        // SAFETY: the queue is alive as long as the handle.
        let refused = unsafe { ibv_req_notify_cq(self.queue.cq().as_ptr(), solicited) };
        if refused != 0 {
            return Err(LinkError::Device(format!(
                "no completion event can be had: error {refused}"
            )));
        }
        Ok(())
    }

    /// Hands out what has completed by now.
    #[inline]
    pub(super) fn poll(&self, mut each: impl FnMut(Completion)) -> Result<(), LinkError> {
        const AT_ONCE: usize = 16;
        loop {
            let mut completions = [const { MaybeUninit::<ibv_wc>::uninit() }; AT_ONCE];
            // SAFETY: the queue is alive as long as the handle; the call fills the first entries, as many as it says.
            let (count, filled) = unsafe {
                let count = ibv_poll_cq(
                    self.queue.cq().as_ptr(),
                    AT_ONCE as i32,
                    completions.as_mut_ptr().cast(),
                );
                let filled = usize::try_from(count).unwrap_or(0).min(AT_ONCE);
                (
                    count,
                    std::slice::from_raw_parts(completions.as_ptr().cast::<ibv_wc>(), filled),
                )
            };
            if count < 0 {
                return Err(LinkError::Device(format!(
                    "the completion queue fails: error {count}"
                )));
            }
            let (mut succeeded, mut failed) = (0, 0);
            for completion in filled {
                let completion = Completion {
                    id: completion.wr_id,
                    status: completion.status,
                    // SAFETY: every bit pattern is a number; of a completion without immediate data it means nothing.
                    immediate: unsafe { completion.imm_data_invalidated_rkey_union.imm_data },
                };
                succeeded += u64::from(completion.succeeded());
                failed += u64::from(!completion.succeeded() && !completion.was_flushed());
                each(completion);
            }
            if succeeded > 0 {
                self.counts.succeeded.fetch_add(succeeded, Ordering::Relaxed);
            }
            if failed > 0 {
                self.counts.failed.fetch_add(failed, Ordering::Relaxed);
            }
            if filled.len() < AT_ONCE {
                return Ok(());
            }
        }
    }
}

impl Completion {
    /// The immediate data of a write, as the peer's [`super::send_queue::SendQueue`] gave it.
    pub(super) fn immediate(&self) -> u32 {
        u32::from_be(self.immediate)
    }

    pub(super) fn succeeded(&self) -> bool {
        self.status == 0
    }

    /// Whether this only follows from an earlier failure.
    pub(super) fn was_flushed(&self) -> bool {
        self.status == FLUSHED
    }

    /// What the status means, with what usually lies behind it.
    pub(super) fn failure(&self) -> String {
        let meaning = match self.status {
            FLUSHED => "the queue pair had failed before",
            4 => "the device may not read the send ring",
            9 => "the peer's device takes the request for invalid",
            10 => "the peer's device refuses the write: its memory keys are no longer valid",
            11 => "the peer's device failed",
            12 => "the peer's device does not answer: its host, its process or the network between is gone",
            13 => "the peer's device has no receive work request for too long",
            _ => "see IBV_WC_* of libibverbs",
        };
        format!("a work request failed with status {}: {meaning}", self.status)
    }
}

/// IBV_WC_WR_FLUSH_ERR.
const FLUSHED: u32 = 5;

//! The receiving side of a connection: writes with immediate data, which wake a sleeper and tell of the large lane.

#![allow(unsafe_code)]

use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdma_mummy_sys::{ibv_post_recv, ibv_qp, ibv_recv_wr};
use transport::link::LinkError;

use super::completion::{Channel, Completion, Event, Queue};
use super::connection::Connection;
use crate::limits;

/// Empty receive work requests, of which each write with immediate data takes one.
pub(super) struct ReceiveRequests {
    pub(super) raw: NonNull<ibv_qp>,
    /// How many of the queue's are not posted.
    pub(super) spent: u32,
}

// SAFETY: libibverbs lets any thread post to a queue pair; the pointer is only followed while the queue pair lives.
unsafe impl Send for ReceiveRequests {}

impl ReceiveRequests {
    /// Posts those that are spent, once there are `at_least` so many.
    pub(super) fn replenish(&mut self, at_least: u32) -> Result<(), LinkError> {
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
    pub(super) requests: ReceiveRequests,
    pub(super) completions: Queue,
    pub(super) channel: Channel,
    /// The queue pair must outlive the requests' pointer to it.
    pub(super) _connection: Arc<Connection>,
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

    /// Asks for an event at the next wake-up, or at a notice that wakes.
    pub(crate) fn arm(&self) -> Result<(), LinkError> {
        self.completions.arm(Event::Solicited)
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }
}

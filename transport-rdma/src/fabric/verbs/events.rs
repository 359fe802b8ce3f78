//! What a device tells of itself and its ports, apart from completions.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::addr_of;
use std::sync::Arc;

use rdma_mummy_sys::{ibv_ack_async_event, ibv_event_type, ibv_get_async_event};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use sideway::ibverbs::device_context::DeviceContext;

/// The events of an open device. The kernel keeps each until somebody takes it.
pub(super) struct Events {
    context: Arc<DeviceContext>,
}

/// IBV_EVENT_* of libibverbs, which may know more of them than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event(u32);

impl Event {
    /// The device has failed, or is being taken out.
    pub(super) const DEVICE_FATAL: Event = Event(ibv_event_type::IBV_EVENT_DEVICE_FATAL as u32);
}

impl Events {
    pub(super) fn of(context: &Arc<DeviceContext>) -> io::Result<Events> {
        // SAFETY: the descriptor is the context's, which is open as long as this borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw((*context.context().as_ptr()).async_fd) };
        let flags = fcntl_getfl(descriptor)?;
        fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Events {
            context: context.clone(),
        })
    }

    /// Takes the events that are there, oldest first. Any thread may, several at one time as well.
    pub(super) fn take(&self, mut each: impl FnMut(Event)) {
        loop {
            let mut event = MaybeUninit::uninit();
            // SAFETY: the context is open, and its descriptor does not block. The call fills the event when it returns
            // zero. Its type is read as the number that it is. Whatever queue pair or queue it is about stays until it has
            // been acknowledged: their destruction waits for that.
            let event = unsafe {
                if ibv_get_async_event(self.context.context().as_ptr(), event.as_mut_ptr()) != 0 {
                    return;
                }
                let number = addr_of!((*event.as_ptr()).event_type).cast::<u32>().read();
                ibv_ack_async_event(event.as_mut_ptr());
                Event(number)
            };
            each(event);
        }
    }
}

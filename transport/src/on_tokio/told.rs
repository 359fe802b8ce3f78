//! What a runtime tells of the descriptors of a link, without the node's poller in between.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll, Waker};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// Has a runtime tell of descriptors.
pub(crate) struct Telling {
    runtime: Handle,
    /// What it wakes.
    waker: Waker,
}

impl Telling {
    pub(super) fn new(runtime: Handle, waker: Waker) -> Telling {
        Telling { runtime, waker }
    }

    /// From here on the runtime tells of these descriptors; of room to write where they are `written`.
    pub(crate) fn of(&self, descriptors: &[BorrowedFd<'_>], written: bool) -> io::Result<Told> {
        let _context = self.runtime.enter();
        // A socket that only wakes has room again with every wake-up that its other end reads: no reason to wake.
        let interest = match written {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        let register = |descriptor: &BorrowedFd<'_>| {
            // Deprecated for descriptors that may be closed while they are registered: see `Told`.
            #[allow(deprecated)]
            AsyncFd::with_interest(descriptor.as_raw_fd(), interest)
        };
        Ok(Told {
            descriptors: descriptors.iter().map(register).collect::<io::Result<_>>()?,
            written,
            waker: self.waker.clone(),
        })
    }
}

/// What a runtime tells of a link. Dropped before the link, whose descriptors it names.
pub(crate) struct Told {
    descriptors: Vec<AsyncFd<RawFd>>,
    written: bool,
    waker: Waker,
}

impl Told {
    /// What has been told since this was last asked: whether the other side has closed its end. If nothing has, the waker is
    /// woken when something is.
    pub(crate) fn take(&self) -> Option<Closed> {
        let mut told = None;
        let mut context = Context::from_waker(&self.waker);
        for descriptor in &self.descriptors {
            if let Poll::Ready(Ok(mut ready)) = descriptor.poll_read_ready(&mut context) {
                let closed = ready.ready().is_read_closed();
                ready.clear_ready();
                told = Some(Closed(closed || told == Some(Closed(true))));
            }
        }
        told
    }

    /// Whether nothing has been told that was not taken. `to_push`: also that there is room again to write. Then the waker is
    /// woken when there is something to take.
    pub(crate) fn is_quiet(&self, to_push: bool) -> bool {
        let mut context = Context::from_waker(&self.waker);
        let mut is_quiet = |descriptor: &AsyncFd<RawFd>| {
            if descriptor.poll_read_ready(&mut context).is_ready() {
                return false;
            }
            if to_push
                && self.written
                && let Poll::Ready(Ok(mut ready)) = descriptor.poll_write_ready(&mut context)
            {
                ready.clear_ready();
                return false;
            }
            true
        };
        self.descriptors.iter().all(&mut is_quiet)
    }
}

/// Whether the other side had closed its end when the runtime was last told of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) bool);

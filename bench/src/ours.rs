//! Our own sides, the things that are measured: nodes and mailboxes over each transport, and the journal.
//!
//! Each is a [`Side`] like the floor beside it, of the same work on the same sizes.

use std::path::Path;

use crate::cli::Transport;
use crate::error::Error;
use crate::floor::journal::{Mode, Shape};
use crate::measure::Side;
use crate::two_process::Work;
use crate::wait::Wait;

/// Mailboxes in two processes; `device` is for rdma alone.
pub(crate) fn messages(
    transport: Transport,
    _work: Work,
    _size: usize,
    _wait: Wait,
    _device: Option<&str>,
) -> Result<Box<dyn Side>, Error> {
    Err(Error::NotBuilt {
        what: match transport {
            Transport::Tcp => "mailboxes over tcp",
            Transport::Shm => "mailboxes over shm",
            Transport::Rdma => "mailboxes over rdma",
        },
    })
}

/// The journal in `dir`, in a mode that its floor could be opened in.
pub(crate) fn journal(_dir: &Path, _mode: Mode, _shape: Shape) -> Result<Box<dyn Side>, Error> {
    Err(Error::NotBuilt { what: "the journal" })
}

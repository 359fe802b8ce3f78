//! The TCP socket beside a queue pair: it says when the peer's queue pair is ready, and ends when its process does.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use transport::link::LinkError;

/// The one byte that goes over the socket once the handshake is done: this end's queue pair receives.
const READY: u8 = b'r';

/// The socket. Both halves of a link look at it.
#[derive(Debug)]
pub(crate) struct Anchor {
    stream: TcpStream,
    peer_is_ready: AtomicBool,
}

impl Anchor {
    /// Takes the socket of a wire whose queue pair has become ready, and says so to the peer.
    pub(crate) fn new(stream: TcpStream) -> Result<Anchor, LinkError> {
        // One byte into a socket that the handshake has emptied: it finds room, or the peer is not one of ours.
        match (&stream).write(&[READY]) {
            Ok(1) => {}
            Ok(_) => return Err(LinkError::Closed),
            Err(error) => return Err(socket_error(error)),
        }
        Ok(Anchor {
            stream,
            peer_is_ready: AtomicBool::new(false),
        })
    }

    /// Whether the peer's queue pair receives. Memory alone.
    #[inline]
    pub(crate) fn peer_is_ready(&self) -> bool {
        self.peer_is_ready.load(Ordering::Acquire)
    }

    /// Whether the peer is ready, after a look at the socket.
    pub(crate) fn check(&self) -> Result<bool, LinkError> {
        let mut byte = [0];
        match (&self.stream).read(&mut byte) {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) if byte[0] == READY && !self.peer_is_ready() => {
                self.peer_is_ready.store(true, Ordering::Release);
                Ok(true)
            }
            Ok(_) => Err(LinkError::Protocol(format!(
                "byte {:#x} on the socket of a running link",
                byte[0]
            ))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(self.peer_is_ready())
            }
            Err(error) => Err(socket_error(error)),
        }
    }
}

impl AsFd for Anchor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The error of a system call on the socket.
pub(super) fn socket_error(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            LinkError::Closed
        }
        _ => LinkError::Io(error),
    }
}

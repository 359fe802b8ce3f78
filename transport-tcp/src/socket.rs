//! A connected socket that never blocks, shared by the two halves of a link.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::Socket;
use transport::link::LinkError;

/// A stream of bytes that never blocks: what the two halves of a link need of a socket.
pub(crate) trait Stream {
    /// Reads what there is; 0 at the end of the stream, `WouldBlock` when there is nothing for now.
    fn read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes what fits; `WouldBlock` when nothing does for now.
    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Like a read of one byte that leaves the byte where it is.
    fn peek(&self) -> io::Result<usize>;
}

/// A connected TCP socket.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    socket: Arc<Socket>,
    peer: SocketAddr,
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let peer = socket
            .peer_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the peer has no IP address"))?;
        Ok(Connection {
            socket: Arc::new(socket),
            peer,
        })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends the connection, so that whoever waits for it finds its end.
    pub(crate) fn hang_up(&self) {
        // Fails only where the connection is over already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok().and_then(|local| local.as_socket())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream for Connection {
    #[inline]
    fn read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let got = match into {
            // One buffer is the common case, and cheaper without a list of them.
            [one] => rustix::net::recv(&*self.socket, &mut **one, RecvFlags::DONTWAIT).map(|(_, got)| got),
            many => rustix::io::readv(&*self.socket, many),
        };
        Ok(got?)
    }

    #[inline]
    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        // NOSIGNAL: a peer that is gone is an error, never a signal, whatever the host program does with SIGPIPE.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let put = match from {
            // As above.
            [one] => rustix::net::send(&*self.socket, one, flags),
            many => rustix::net::sendmsg(&*self.socket, many, &mut SendAncillaryBuffer::default(), flags),
        };
        Ok(put?)
    }

    fn peek(&self) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let (_, got) = rustix::net::recv(&*self.socket, &mut [0u8; 1], flags)?;
        Ok(got)
    }
}

/// What a failed read or write says about the link.
pub(crate) fn link_error(error: io::Error) -> LinkError {
    match error.kind() {
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => LinkError::Closed,
        ErrorKind::TimedOut => LinkError::TimedOut,
        _ => LinkError::Io(error),
    }
}

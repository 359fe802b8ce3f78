//! Listening: a socket that never blocks, and errors that say what to do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use transport::link::{Listener, TransportError, Wire};

use crate::Tcp;
use crate::address::{Address, bad_address};
use crate::socket::Connection;
use crate::wire::TcpWire;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;

/// How long a name to listen on may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);

/// A listening socket.
pub(crate) struct TcpListener {
    socket: Socket,
    address: SocketAddr,
}

impl TcpListener {
    pub(crate) fn bind(options: &Tcp, address: &Address) -> Result<TcpListener, TransportError> {
        let candidates = address.resolve(Instant::now() + RESOLVE).map_err(|error| {
            bad_address(
                &address.to_string(),
                &format!("the name does not resolve: {error}"),
            )
        })?;
        let mut outcome = Err(bad_address(&address.to_string(), "the name has no address"));
        for candidate in candidates {
            outcome = bind_one(options, candidate).map_err(|error| explain(address, error));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn bind_one(options: &Tcp, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that starts again takes its port back at once, whatever the last one's connections are still doing.
    socket.set_reuse_address(true)?;
    options.size_buffers(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the system bound something else than an IP address"))?;
    Ok(TcpListener { socket, address })
}

fn explain(address: &Address, error: io::Error) -> TransportError {
    match error.kind() {
        ErrorKind::AddrInUse => TransportError::AddressInUse {
            address: address.to_string(),
        },
        ErrorKind::AddrNotAvailable => bad_address(
            &address.to_string(),
            "this machine does not have that address; use one that it has, or 0.0.0.0 for all",
        ),
        ErrorKind::PermissionDenied => TransportError::Io {
            context: format!("listening on {address} (a port below 1024 needs CAP_NET_BIND_SERVICE)"),
            source: error,
        },
        _ => TransportError::Io {
            context: format!("listening on {address}"),
            source: error,
        },
    }
}

/// Whether an error of `accept` is about the one peer that was about to be accepted, see accept(2).
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
    )
}

impl Listener for TcpListener {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        // Each turn takes one connection off the queue. A broken one is no reason to return: whoever waits for an
        // edge of the descriptor relies on `None` to mean that the queue is empty.
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => {
                    if let Ok(connection) = Connection::new(socket) {
                        return Ok(Some(Box::new(TcpWire::new(connection))));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => {
                    return Err(TransportError::Io {
                        context: format!("accepting on {}", self.address),
                        source: error,
                    });
                }
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

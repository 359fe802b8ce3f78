//! Dialling: every address that a name has, within one deadline.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use transport::link::TransportError;

use crate::Tcp;
use crate::address::{Address, bad_address};
use crate::socket::Connection;
use crate::wire::TcpWire;

pub(crate) fn dial(options: &Tcp, address: &Address, deadline: Instant) -> Result<TcpWire, TransportError> {
    if address.port() == 0 {
        return Err(bad_address(
            &address.to_string(),
            "nobody can be dialled at port 0",
        ));
    }
    let unreachable = |source| TransportError::Unreachable {
        address: address.to_string(),
        source,
    };
    let candidates = address.resolve(deadline).map_err(unreachable)?;
    let mut last = io::Error::from(ErrorKind::TimedOut);
    for (index, candidate) in candidates.iter().enumerate() {
        // An address that swallows packets must not eat the time of those after it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (candidates.len() - index) as u32;
        if share < Duration::from_millis(1) {
            break;
        }
        match connect(options, *candidate, share) {
            Ok(connection) => return Ok(TcpWire::new(connection)),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn connect(options: &Tcp, address: SocketAddr, within: Duration) -> io::Result<Connection> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    options.size_buffers(&socket)?;
    socket.connect_timeout(&address.into(), within)?;
    // Dialling a free port of this machine's ephemeral range can connect a socket to itself.
    if socket.local_addr()?.as_socket() == Some(address) {
        return Err(io::Error::from(ErrorKind::ConnectionRefused));
    }
    Connection::new(socket)
}

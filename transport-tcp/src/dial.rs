//! Dialling: every address that a name has, within one deadline.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use transport::host::dial_each;
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
    let dial = |candidate, within| connect(options, candidate, within);
    let connection = dial_each(&candidates, deadline, dial).map_err(unreachable)?;
    Ok(TcpWire::new(connection))
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

//! The TCP link: spans of a send ring go out of a socket, and the peer reads them straight into its receive ring.
//!
//! [`Tcp`] is a [`Transport`] with the scheme `tcp` and addresses `host:port`: an IPv4 address, an IPv6 address in
//! brackets, or a name. What goes over the wire is in `docs/PROTOCOL.md`. Nothing here starts a thread that stays,
//! looks at a clock except for a caller's deadline, or blocks once the handshake is over.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![forbid(unsafe_code)]

mod address;
mod dial;
mod listen;
mod receiver;
mod sender;
mod socket;
mod span;
mod wire;

#[cfg(test)]
mod pipe;
#[cfg(test)]
mod tests;

use std::time::Instant;

use socket2::Socket;
use transport::link::{Listener, Transport, TransportError, Wire};

use crate::address::{Address, SCHEME};

/// Links over TCP sockets.
///
/// ```
/// use std::time::{Duration, Instant};
/// use transport::link::Transport;
/// use transport_tcp::Tcp;
///
/// let tcp = Tcp::new();
/// let mut listener = tcp.listen("127.0.0.1:0")?;
/// let deadline = Instant::now() + Duration::from_secs(5);
/// let mut dialled = tcp.dial(&listener.address(), deadline)?;
/// let mut accepted = loop {
///     if let Some(wire) = listener.accept()? {
///         break wire;
///     }
/// };
/// dialled.send(b"hello", deadline)?;
/// assert_eq!(accepted.receive(deadline)?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
}

impl Tcp {
    /// TCP with the system's own buffer sizes, which it adapts to the path.
    pub fn new() -> Tcp {
        Tcp::default()
    }

    /// Asks for a fixed send buffer of `bytes` in the kernel (`SO_SNDBUF`); switches the system's adaptation off.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Tcp {
        self.send_buffer = Some(bytes);
        self
    }

    /// Asks for a fixed receive buffer of `bytes` in the kernel (`SO_RCVBUF`); switches the system's adaptation off.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Tcp {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Buffer sizes must be there before the connection is, because the window's scale is agreed on with it.
    fn size_buffers(&self, socket: &Socket) -> std::io::Result<()> {
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

impl Transport for Tcp {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        let listener = listen::TcpListener::bind(self, &Address::parse(address)?)?;
        Ok(Box::new(listener))
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        let wire = dial::dial(self, &Address::parse(address)?, deadline)?;
        Ok(Box::new(wire))
    }
}

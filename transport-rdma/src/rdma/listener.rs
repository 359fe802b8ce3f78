//! Listening for handshakes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use transport::link::{Listener, TransportError, Wire};

use super::SCHEME;
use super::wire::RdmaWire;
use crate::fabric::verbs::device::OnDemand;

/// A listening TCP socket.
pub(super) struct RdmaListener {
    device: Arc<OnDemand>,
    socket: TcpListener,
    address: SocketAddr,
}

impl RdmaListener {
    pub(super) fn new(
        device: Arc<OnDemand>,
        text: &str,
        addresses: &[SocketAddr],
    ) -> Result<RdmaListener, TransportError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => TransportError::AddressInUse {
                address: format!("{SCHEME}://{text}"),
            },
            _ => TransportError::Io {
                context: format!("listen on {SCHEME}://{text}"),
                source,
            },
        };
        let socket = TcpListener::bind(addresses).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(RdmaListener {
            device,
            socket,
            address,
        })
    }
}

impl Listener for RdmaListener {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError> {
        loop {
            match self.socket.accept() {
                Ok((stream, from)) => match RdmaWire::new(self.device.clone(), stream, from) {
                    Ok(wire) => return Ok(Some(Box::new(wire))),
                    Err(error) => tracing::debug!(%from, %error, "a dialler was gone before it was accepted"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(source) => {
                    return Err(TransportError::Io {
                        context: format!("accept on {SCHEME}://{}", self.address),
                        source,
                    });
                }
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

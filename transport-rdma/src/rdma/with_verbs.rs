//! The transport itself.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use transport::host::{self, dial_each};
use transport::link::{Listener, Transport, TransportError, Wire};

use super::listener::RdmaListener;
use super::wire::RdmaWire;
use super::{RdmaOptions, SCHEME};
use crate::fabric::verbs::device::OnDemand;

/// Links over RDMA writes: `rdma://host:port`, where host and port are those of a TCP socket that carries the
/// handshake and stays open to tell when the peer's process ends.
///
/// The device is open while there are connections on it. When it is removed, they end within a heartbeat, and whoever
/// connects later finds the device that is there by then.
#[derive(Clone)]
pub struct Rdma {
    device: Arc<OnDemand>,
    found: String,
}

impl Rdma {
    /// Finds the device.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`]: libibverbs, the device or its port is missing; says what mends it.
    pub fn new(options: RdmaOptions) -> Result<Rdma, TransportError> {
        let device = Arc::new(OnDemand::new(options));
        let found = device.device()?.describe();
        Ok(Rdma { device, found })
    }

    /// The device, port and address that were found, for people.
    pub fn device(&self) -> String {
        self.found.clone()
    }
}

impl std::fmt::Debug for Rdma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rdma").field(&self.found).finish()
    }
}

/// How long a name to listen on may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);

impl Transport for Rdma {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn needs_checksums(&self) -> bool {
        true
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.device.counts;
        vec![
            ("completions", counts.succeeded.load(Ordering::Relaxed)),
            ("failed completions", counts.failed.load(Ordering::Relaxed)),
            ("device events", counts.events.load(Ordering::Relaxed)),
        ]
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        let addresses = resolve(address, Instant::now() + RESOLVE)?;
        Ok(Box::new(RdmaListener::new(
            self.device.clone(),
            address,
            &addresses,
        )?))
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        let unreachable = |source: io::Error| TransportError::Unreachable {
            address: format!("{SCHEME}://{address}"),
            source,
        };
        // Without a device there is no need to trouble the peer.
        let device = self.device.device()?;
        let stream = dial_each(&resolve(address, deadline)?, deadline, connect).map_err(unreachable)?;
        let peer = stream.peer_addr().map_err(unreachable)?;
        let wire = RdmaWire::new(self.device.clone(), stream, peer).map_err(unreachable)?;
        Ok(Box::new(wire.on(device)))
    }
}

fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, within)?;
    // Dialling a free port of this machine's ephemeral range can connect a socket to itself.
    match stream.local_addr()? == address {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

/// The socket addresses behind `host:port`; gives up at the deadline.
fn resolve(address: &str, deadline: Instant) -> Result<Vec<SocketAddr>, TransportError> {
    let example = "write host:port, as in rdma://10.77.0.1:7000 or rdma://[fd00::1]:7000";
    host::resolve(address.to_owned(), deadline).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => TransportError::Unreachable {
            address: format!("{SCHEME}://{address}"),
            source: error,
        },
        _ => TransportError::BadAddress {
            scheme: SCHEME,
            address: address.to_owned(),
            reason: format!("{error}; {example}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_what_it_should_look_like() {
        let deadline = Instant::now() + Duration::from_secs(30);
        for wrong in ["", "10.0.0.1", "10.0.0.1:port", "10.0.0.1:99999", ":"] {
            let error = resolve(wrong, deadline).unwrap_err();
            assert!(error.to_string().contains("host:port"), "{error}");
        }
        assert_eq!(resolve("127.0.0.1:7000", deadline).unwrap().len(), 1);
    }
}

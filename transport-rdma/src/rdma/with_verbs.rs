//! The transport itself.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
        let addresses = resolve(address)?;
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
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for candidate in resolve(address)? {
            let left = deadline.saturating_duration_since(Instant::now());
            match TcpStream::connect_timeout(&candidate, left.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    let wire = RdmaWire::new(self.device.clone(), stream, candidate).map_err(unreachable)?;
                    return Ok(Box::new(wire.on(device)));
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }
}

/// The socket addresses behind `host:port`.
fn resolve(address: &str) -> Result<Vec<SocketAddr>, TransportError> {
    let bad = |reason: String| TransportError::BadAddress {
        scheme: SCHEME,
        address: address.to_owned(),
        reason,
    };
    let example = "write host:port, as in rdma://10.77.0.1:7000 or rdma://[fd00::1]:7000";
    let addresses: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| bad(format!("{error}; {example}")))?
        .collect();
    if addresses.is_empty() {
        return Err(bad(format!("it names no host; {example}")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_what_it_should_look_like() {
        for wrong in ["", "10.0.0.1", "10.0.0.1:port", "10.0.0.1:99999", ":"] {
            let error = resolve(wrong).unwrap_err();
            assert!(error.to_string().contains("host:port"), "{error}");
        }
        assert_eq!(resolve("127.0.0.1:7000").unwrap().len(), 1);
    }
}

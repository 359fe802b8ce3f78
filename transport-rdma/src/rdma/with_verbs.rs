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
use crate::fabric::verbs::device::Device;

/// Links over RDMA writes: `rdma://host:port`, where host and port are those of a TCP socket that carries the
/// handshake and stays open to tell when the peer's process ends.
#[derive(Clone)]
pub struct Rdma {
    device: Arc<Device>,
}

impl Rdma {
    /// Opens the device.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`]: libibverbs, the device or its port is missing; says what mends it.
    pub fn new(options: RdmaOptions) -> Result<Rdma, TransportError> {
        Ok(Rdma {
            device: Arc::new(Device::open(&options)?),
        })
    }

    /// The device, port and address in use, for people.
    pub fn device(&self) -> String {
        let Device {
            name,
            port,
            gid_index,
            gid,
            ..
        } = &*self.device;
        format!("{name} port {port} GID {gid_index} ({gid})")
    }
}

impl std::fmt::Debug for Rdma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rdma").field(&self.device()).finish()
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
        let outcomes = &self.device.outcomes;
        vec![
            ("completions", outcomes.succeeded.load(Ordering::Relaxed)),
            ("failed completions", outcomes.failed.load(Ordering::Relaxed)),
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
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for candidate in resolve(address)? {
            let left = deadline.saturating_duration_since(Instant::now());
            match TcpStream::connect_timeout(&candidate, left.max(Duration::from_millis(1))) {
                Ok(stream) => {
                    let wire = RdmaWire::new(self.device.clone(), stream, candidate).map_err(unreachable)?;
                    return Ok(Box::new(wire));
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

//! Shared memory between the processes of one host, as a transport. Needs no device and no privileges.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::connect;
use transport::link::{Listener, Transport, TransportError, Wire};

mod address;
mod listener;
mod wire;

use address::Address;
use listener::{ShmListener, new_socket};
use wire::ShmWire;

const SCHEME: &str = "shm";

/// Links between the processes of one host, over memory that both map: `shm:///run/node.sock`, or `shm://@node` for
/// a name that leaves no file behind (`shm://@`: the system chooses it).
///
/// Who may connect is decided by the socket file's permissions; an abstract name has none, so there the session's
/// own authentication is all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shm(());

impl Shm {
    /// The transport.
    pub fn new() -> Shm {
        Shm(())
    }
}

impl Transport for Shm {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        Ok(Box::new(ShmListener::new(address)?))
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        const BETWEEN_TRIES: Duration = Duration::from_millis(1);
        let parsed = Address::parse(address)?;
        let unreachable = |error: Errno| TransportError::Unreachable {
            address: format!("{SCHEME}://{address}"),
            source: io::Error::from(error),
        };
        let name = parsed.to_socket().map_err(unreachable)?;
        let socket = new_socket().map_err(unreachable)?;
        loop {
            match connect(&socket, &name) {
                Ok(()) => return Ok(Box::new(ShmWire::new(socket, address))),
                // The listener's queue is full: it has no way to tell when it is not.
                Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(BETWEEN_TRIES),
                Err(Errno::AGAIN) => return Err(unreachable(Errno::TIMEDOUT)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
    }
}

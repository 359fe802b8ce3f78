//! The floor of the tcp rows: a bare loopback socket with `TCP_NODELAY`.
//!
//! Latency: one send and one receive of the payload each way. Throughput: the same bytes in writes of 64 KiB,
//! which is what perfect coalescing would make of any message size. The waiting is the same as ours: spinning
//! looks with non-blocking calls, parking makes blocking ones.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::{Deserialize, Serialize};

use crate::error::{Error, doing};
use crate::measure::{Laps, Side};
use crate::two_process::{self, Far, Near, Plan, TwoProcesses, Work};
use crate::wait::{Gone, Idle, Next, Wait};

const STREAM_WRITE: usize = 64 << 10;
const STREAM_READ: usize = 256 << 10;
/// A blocking call returns this often, to see whether the peer still lives.
const BLOCKED_AT_MOST: Duration = Duration::from_millis(500);

/// What a far half needs to know to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    wait: Wait,
}

impl two_process::Role for Role {
    const KIND: &'static str = "tcp floor";

    fn open(self) -> Result<Box<dyn Far>, Error> {
        Ok(Box::new(Responder::open(self)?))
    }
}

/// The two-process floor.
pub(crate) fn side(work: Work, size: usize, wait: Wait) -> Result<impl Side, Error> {
    let role = Role { wait };
    TwoProcesses::start(role, work, size, |address| {
        let stream = TcpStream::connect(address).map_err(doing(format!("connecting to {address}")))?;
        Ok(Requester {
            socket: Socket::new(stream, wait)?,
            buffer: vec![0x5a; size.max(STREAM_WRITE)],
        })
    })
}

/// The near half.
struct Requester {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Near for Requester {
    fn run(&mut self, plan: &Plan, laps: &mut Laps, gone: &Gone) -> Result<(), Error> {
        match plan.work {
            Work::PingPong => {
                let message = &mut self.buffer[..plan.size];
                laps.start();
                for _ in 0..plan.count {
                    self.socket.send(message, gone)?;
                    self.socket.receive(message, gone)?;
                    laps.lap();
                }
            }
            Work::Stream => {
                let mut left = plan.size as u64 * plan.count;
                while left > 0 {
                    let part = left.min(STREAM_WRITE as u64);
                    self.socket.send(&self.buffer[..part as usize], gone)?;
                    left -= part;
                }
            }
        }
        Ok(())
    }
}

/// The far half.
struct Responder {
    listener: TcpListener,
    wait: Wait,
    socket: Option<Socket>,
    buffer: Vec<u8>,
}

impl Responder {
    fn open(role: Role) -> Result<Responder, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(doing("listening on the loopback address"))?;
        Ok(Responder {
            listener,
            wait: role.wait,
            socket: None,
            buffer: Vec::new(),
        })
    }

    fn socket(&mut self) -> Result<&mut Socket, Error> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let (stream, _) = self.listener.accept().map_err(doing("accepting a connection"))?;
                Socket::new(stream, self.wait)?
            }
        };
        Ok(self.socket.insert(socket))
    }
}

impl Far for Responder {
    fn address(&self) -> Result<String, Error> {
        Ok(self
            .listener
            .local_addr()
            .map_err(doing("asking for the listener's address"))?
            .to_string())
    }

    fn run(&mut self, plan: &Plan, gone: &Gone) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(plan.size.max(STREAM_READ), 0);
        let socket = self.socket()?;
        match plan.work {
            Work::PingPong => {
                for _ in 0..plan.count {
                    socket.receive(&mut buffer[..plan.size], gone)?;
                    socket.send(&buffer[..plan.size], gone)?;
                }
            }
            Work::Stream => {
                let mut left = plan.size as u64 * plan.count;
                while left > 0 {
                    let part = left.min(STREAM_READ as u64) as usize;
                    left -= socket.receive_some(&mut buffer[..part], gone)? as u64;
                }
            }
        }
        self.buffer = buffer;
        Ok(())
    }
}

/// A connected socket and how to wait on it.
struct Socket {
    stream: TcpStream,
    wait: Wait,
}

impl Socket {
    fn new(stream: TcpStream, wait: Wait) -> Result<Socket, Error> {
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(BLOCKED_AT_MOST)))
            .and_then(|()| stream.set_write_timeout(Some(BLOCKED_AT_MOST)))
            .map_err(doing("setting up a socket"))?;
        Ok(Socket { stream, wait })
    }

    fn send(&self, bytes: &[u8], gone: &Gone) -> Result<(), Error> {
        let mut idle = Idle::new(self.wait, gone);
        let (waiting, looking) = (SendFlags::NOSIGNAL, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let mut flags = if self.wait == Wait::Park { waiting } else { looking };
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.stream, &bytes[sent..], flags) {
                Ok(part) => {
                    sent += part;
                    idle.found();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    flags = if idle.found_nothing()? == Next::Sleep {
                        waiting
                    } else {
                        looking
                    };
                }
                Err(errno) => return Err(doing("sending on a socket")(errno)),
            }
        }
        Ok(())
    }

    fn receive(&self, bytes: &mut [u8], gone: &Gone) -> Result<(), Error> {
        let mut received = 0;
        while received < bytes.len() {
            received += self.receive_some(&mut bytes[received..], gone)?;
        }
        Ok(())
    }

    fn receive_some(&self, bytes: &mut [u8], gone: &Gone) -> Result<usize, Error> {
        let mut idle = Idle::new(self.wait, gone);
        let mut flags = if self.wait == Wait::Park {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        loop {
            match recv(&self.stream, &mut *bytes, flags) {
                Ok((0, _)) => return Err(Error::PeerGone),
                Ok((part, _)) => return Ok(part),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let sleep = idle.found_nothing()? == Next::Sleep;
                    flags = if sleep {
                        RecvFlags::empty()
                    } else {
                        RecvFlags::DONTWAIT
                    };
                }
                Err(errno) => return Err(doing("receiving from a socket")(errno)),
            }
        }
    }
}

//! The wire: length-prefixed handshake messages until the rings start. See `docs/PROTOCOL.md`, "Handshake".
//!
//! Every call ends at its deadline, and reading takes exactly the bytes of one message off the socket.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport::frame::ALIGNMENT;
use transport::host::{self, source_of};
use transport::lane::LANES;
use transport::link::{Ends, HangUp, LaneMemory, Link, LinkError, LinkMemory, MAX_HANDSHAKE, Wire};
use transport::ring::{Arrival, Position};

use crate::receiver::SpanReceiver;
use crate::sender::{Offered, SpanSender};
use crate::socket::{Connection, Stream, link_error};
use crate::span::VERSION;

/// Bytes of the length before each message.
const PREFIX: usize = 4;

/// A connection that still shakes hands.
pub(crate) struct TcpWire {
    connection: Connection,
}

impl TcpWire {
    pub(crate) fn new(connection: Connection) -> TcpWire {
        TcpWire { connection }
    }

    /// Waits until the socket is ready, for what the caller wants, until `deadline` at most.
    fn wait(&self, wanted: PollFlags, deadline: Instant) -> Result<(), LinkError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::TimedOut);
            }
            // A deadline beyond what the system can express is as good as none.
            let timeout = Timespec::try_from(left).ok();
            let mut descriptors = [PollFd::from_borrowed_fd(self.connection.as_fd(), wanted)];
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LinkError::Io(error.into())),
            }
        }
    }

    fn read_exactly(&self, mut into: &mut [u8], deadline: Instant) -> Result<(), LinkError> {
        while !into.is_empty() {
            match self.connection.read(&mut [IoSliceMut::new(into)]) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(got) => into = &mut into[got..],
                Err(error) => self.wait_or_fail(error, PollFlags::IN, deadline)?,
            }
        }
        Ok(())
    }

    fn write_all(&self, mut from: &[u8], deadline: Instant) -> Result<(), LinkError> {
        while !from.is_empty() {
            match self.connection.write(&[IoSlice::new(from)]) {
                Ok(put) => from = &from[put..],
                Err(error) => self.wait_or_fail(error, PollFlags::OUT, deadline)?,
            }
        }
        Ok(())
    }

    fn wait_or_fail(&self, error: io::Error, wanted: PollFlags, deadline: Instant) -> Result<(), LinkError> {
        match error.kind() {
            ErrorKind::WouldBlock => self.wait(wanted, deadline),
            ErrorKind::Interrupted => Ok(()),
            _ => Err(link_error(error)),
        }
    }
}

/// A message with its length before it, so that it is one write and one segment.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX + message.len());
    bytes.extend_from_slice(&(message.len() as u32).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes
}

impl Wire for TcpWire {
    fn peer(&self) -> String {
        self.connection.peer().to_string()
    }

    fn source(&self) -> String {
        source_of(self.connection.peer().ip())
    }

    fn ends(&self) -> Option<Ends> {
        host::ends(self.connection.local()?, self.connection.peer())
    }

    fn hang_up(&self) -> Option<HangUp> {
        let connection = self.connection.clone();
        Some(Box::new(move |last_word| {
            // What does not fit at once is lost with the rest.
            let _ = connection.write(&[IoSlice::new(&framed(last_word))]);
            connection.hang_up();
        }))
    }

    fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), LinkError> {
        if message.len() > MAX_HANDSHAKE {
            return Err(LinkError::Io(io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "handshake message of {} bytes exceeds the limit of {MAX_HANDSHAKE}",
                    message.len()
                ),
            )));
        }
        self.write_all(&framed(message), deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let mut prefix = [0; PREFIX];
        self.read_exactly(&mut prefix, deadline)?;
        let length = u32::from_le_bytes(prefix) as usize;
        if length > MAX_HANDSHAKE {
            return Err(LinkError::Protocol(format!(
                "handshake message of {length} bytes exceeds the limit of {MAX_HANDSHAKE}: does the peer speak \
                 another protocol?"
            )));
        }
        let mut message = vec![0; length];
        self.read_exactly(&mut message, deadline)?;
        Ok(message)
    }

    fn offer(&mut self, _receive: &LaneMemory) -> Result<Vec<u8>, LinkError> {
        Ok(vec![VERSION])
    }

    fn link(
        self: Box<Self>,
        _memory: &LinkMemory,
        offer: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError> {
        if offer != [VERSION] {
            return Err(LinkError::Protocol(format!(
                "the peer offers TCP spans of version {offer:02x?}, this side speaks {VERSION}"
            )));
        }
        if let Some(position) = from.iter().find(|position| *position % ALIGNMENT as u64 != 0) {
            return Err(LinkError::Protocol(format!(
                "the peer resumes at position {position}, where no frame can start"
            )));
        }
        let description = match self.connection.local() {
            Some(local) => format!("tcp {local} - {}", self.connection.peer()),
            None => format!("tcp {}", self.connection.peer()),
        };
        let offered = Offered::starting(from);
        Ok(Link {
            sender: Box::new(SpanSender::new(self.connection.clone(), from, offered.clone())),
            receiver: Box::new(SpanReceiver::new(self.connection, offered)),
            arrival: Arrival::Counted,
            doorbell: None,
            cells: None,
            description,
        })
    }
}

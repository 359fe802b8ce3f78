//! The receiving half: one read takes in what there is, ring bytes in place.
//!
//! Between spans it is not known what comes next, so a read goes into a small buffer, and whatever spans it holds are
//! copied to their rings: a small message costs one system call and one copy of a few cache lines. Within a span it
//! is known, so a read goes straight into the ring, and only what follows the span goes into the buffer: large flows
//! are read in place, in pieces as large as what has arrived. So nothing is ever read ahead into a ring, no lane
//! is guessed, and after every step the buffer holds less than a header.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use transport::lane::Lane;
use transport::link::{LinkError, LinkReceiver, ReceiveLanes};

use crate::sender::Offered;
use crate::socket::{Connection, Stream, link_error};
use crate::span::{HEADER, Header};

/// Size of the buffer between spans, in bytes: how much of small spans one read takes in.
pub(crate) const BUFFER: usize = 16 << 10;

/// Takes spans out of a stream.
pub(crate) struct SpanReceiver<S> {
    stream: S,
    buffer: Box<[u8]>,
    /// Bytes at the start of the buffer that are not digested: part of a header, and nothing within a span.
    held: usize,
    /// The lane of the span that has begun.
    lane: Lane,
    /// Bytes of that span that are still to come; its ring has room for them.
    missing: usize,
    /// The last read found nothing, or all there was, so whatever comes is signalled.
    idle: bool,
    /// Told since the last read: the end of the stream had not come, and will be signalled by itself.
    open: bool,
    offered: Offered,
}

impl<S: Stream> SpanReceiver<S> {
    pub(crate) fn new(stream: S, offered: Offered) -> SpanReceiver<S> {
        SpanReceiver {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            held: 0,
            lane: Lane::Control,
            missing: 0,
            idle: false,
            open: false,
            offered,
        }
    }

    /// One read, and what it brought. Returns whether it brought anything.
    pub(crate) fn poll_spans(&mut self, lanes: &mut ReceiveLanes) -> Result<bool, LinkError> {
        self.idle = false;
        let open = std::mem::take(&mut self.open);
        let read = if self.missing == 0 {
            self.read_between_spans(lanes, open)
        } else {
            self.read_within_span(lanes)
        };
        match read? {
            Some(0) => Err(LinkError::Closed),
            Some(_) => Ok(true),
            None => {
                self.idle = true;
                Ok(false)
            }
        }
    }

    fn read_between_spans(
        &mut self,
        lanes: &mut ReceiveLanes,
        open: bool,
    ) -> Result<Option<usize>, LinkError> {
        let room = self.buffer.len() - self.held;
        let Some(got) = arrived(|| {
            self.stream
                .read(&mut [IoSliceMut::new(&mut self.buffer[self.held..])])
        })?
        else {
            return Ok(None);
        };
        self.idle = open && got < room;
        self.digest(self.held + got, lanes)?;
        Ok(Some(got))
    }

    fn read_within_span(&mut self, lanes: &mut ReceiveLanes) -> Result<Option<usize>, LinkError> {
        let ring = lanes.ring(self.lane);
        let room = ring.writable();
        let len = room.len().min(self.missing);
        let room = &mut room[..len];
        let read = if len < self.missing {
            // The span wraps: its next piece is at the start of the ring.
            arrived(|| self.stream.read(&mut [IoSliceMut::new(room)]))?
        } else {
            arrived(|| {
                self.stream
                    .read(&mut [IoSliceMut::new(room), IoSliceMut::new(&mut self.buffer)])
            })?
        };
        let Some(got) = read else {
            return Ok(None);
        };
        let in_place = got.min(len);
        ring.advance(in_place);
        self.missing -= in_place;
        self.digest(got - in_place, lanes)?;
        Ok(Some(got))
    }

    /// Takes in the first `end` bytes of the buffer.
    fn digest(&mut self, end: usize, lanes: &mut ReceiveLanes) -> Result<(), LinkError> {
        let mut start = 0;
        loop {
            while self.missing > 0 && start < end {
                let ring = lanes.ring(self.lane);
                let room = ring.writable();
                let len = room.len().min(self.missing).min(end - start);
                if len == 0 {
                    // `begin` has made sure of the room; without it this would turn for ever.
                    return Err(LinkError::Protocol(format!(
                        "no room for {} bytes of the {:?} lane",
                        self.missing, self.lane
                    )));
                }
                room[..len].copy_from_slice(&self.buffer[start..start + len]);
                ring.advance(len);
                self.missing -= len;
                start += len;
            }
            let Some(header) = self.buffer[start..end].first_chunk::<HEADER>() else {
                break;
            };
            let header = Header::decode(header)?;
            self.begin(header, lanes)?;
            start += HEADER;
        }
        self.buffer.copy_within(start..end, 0);
        self.held = end - start;
        Ok(())
    }

    /// Checks a header and takes its word. Afterwards the lane's ring has room for the whole span.
    #[inline]
    fn begin(&mut self, header: Header, lanes: &mut ReceiveLanes) -> Result<(), LinkError> {
        let lane = header.lane;
        let offered = self.offered.position(lane);
        if header.acknowledged > offered {
            return Err(LinkError::Protocol(format!(
                "acknowledged position {} of the {lane:?} lane, of which only {offered} bytes were sent",
                header.acknowledged
            )));
        }
        let ring = lanes.ring(lane);
        let room = ring.capacity() - (ring.arrived() - ring.consumed());
        if u64::from(header.length) > room {
            return Err(LinkError::Protocol(format!(
                "span of {} bytes in the {lane:?} lane, whose ring has room for {room}",
                header.length
            )));
        }
        let credit = &mut lanes.credit[lane.index()];
        *credit = header.acknowledged.max(*credit);
        self.lane = lane;
        self.missing = header.length as usize;
        Ok(())
    }

    /// The stream has signalled: whether its end had come by then. If not, the end is signalled by itself.
    pub(crate) fn hear(&mut self, closed: bool) {
        self.open = !closed;
    }

    /// Whether there is nothing to do until the stream signals.
    pub(crate) fn may_sleep(&mut self, lanes: &ReceiveLanes) -> Result<bool, LinkError> {
        if lanes.handed_out().any(|ring| !matches!(ring.peek(), Ok(None))) {
            return Ok(false);
        }
        // A short read alone is not enough here: the end of the stream may already stand behind the bytes, signalled once
        // together with them.
        if !self.idle {
            match arrived(|| self.stream.peek())? {
                None => self.idle = true,
                Some(0) => return Err(LinkError::Closed),
                Some(_) => {}
            }
        }
        Ok(self.idle)
    }
}

/// What a read brought; `None` when there is nothing for now.
#[inline]
fn arrived(mut read: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, LinkError> {
    loop {
        match read() {
            Ok(got) => return Ok(Some(got)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(link_error(error)),
        }
    }
}

impl LinkReceiver for SpanReceiver<Connection> {
    fn poll(&mut self, lanes: &mut ReceiveLanes) -> Result<bool, LinkError> {
        self.poll_spans(lanes)
    }

    fn arm(&mut self, lanes: &ReceiveLanes) -> Result<bool, LinkError> {
        self.may_sleep(lanes)
    }

    fn told(&mut self, closed: bool) {
        self.hear(closed);
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.stream.as_fd()]
    }

    fn polls_memory(&self) -> bool {
        false
    }
}

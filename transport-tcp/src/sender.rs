//! The pushing half: spans of the send rings go out, control first, several lanes in one write.
//!
//! A span that has begun is finished before anything else, because the peer counts its bytes; spans that did not get
//! into the socket are planned afresh, so that control which came in the meantime goes ahead of them.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transport::lane::{LANES, Lane};
use transport::link::{LinkError, LinkSender, Push, SendLanes};
use transport::ring::{Position, SendRing};

use crate::socket::{Connection, Stream, link_error};
use crate::span::{HEADER, Header};

/// Longest span, in bytes: what control may have to wait for.
pub(crate) const MAX_SPAN: u64 = 128 << 10;

/// Most spans of one write: one of each lane, and the one that had begun.
const BATCH: usize = LANES + 1;

/// Pieces of a span: its header, and its bytes, which are two pieces where the ring wraps.
const PIECES: usize = 3;

/// Writes of at most so many bytes go as one piece.
const GATHERED: usize = 2 << 10;

/// How far each lane was offered to the socket: the peer can't have consumed anything beyond. Told by the pushing half
/// to the receiving one.
#[derive(Clone, Debug)]
pub(crate) struct Offered(Arc<[AtomicU64; LANES]>);

impl Offered {
    pub(crate) fn starting(from: [Position; LANES]) -> Offered {
        Offered(Arc::new(from.map(AtomicU64::new)))
    }

    /// Release, before the bytes go: whoever hears back from the peer sees at least this.
    #[inline]
    fn reaches(&self, lane: Lane, position: Position) {
        self.0[lane.index()].store(position, Ordering::Release);
    }

    #[inline]
    pub(crate) fn position(&self, lane: Lane) -> Position {
        self.0[lane.index()].load(Ordering::Acquire)
    }
}

/// How far a lane has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Everything below is known to be committed. The end of a frame; not below `pushed`.
    committed: Position,
    /// Everything below is in spans that have begun.
    pushed: Position,
    /// What the peer was last told that this side has consumed.
    told: Position,
}

/// Ring bytes of one lane under one header.
#[derive(Clone, Copy, Debug)]
struct Span {
    header: Header,
    from: Position,
}

impl Span {
    const NOTHING: Span = Span {
        header: Header {
            lane: Lane::Control,
            length: 0,
            acknowledged: 0,
        },
        from: 0,
    };

    fn to(&self) -> Position {
        self.from + u64::from(self.header.length)
    }

    /// Bytes on the wire.
    fn size(&self) -> usize {
        HEADER + self.header.length as usize
    }

    /// Its ring bytes, in two pieces where the ring wraps.
    fn bytes<'l>(&self, lanes: &'l SendLanes) -> [&'l [u8]; 2] {
        lanes.ring(self.header.lane).span(self.from, self.to())
    }
}

/// Pushes spans into a stream.
pub(crate) struct SpanSender<S> {
    stream: S,
    lanes: [Progress; LANES],
    /// The spans of one write, in the order in which they go: so many of them.
    batch: [Span; BATCH],
    spans: usize,
    /// How many bytes of the first of them the last write took: fewer than it has, and none unless the write ended in it.
    begun: usize,
    offered: Offered,
    /// Where the pieces of a small write come together.
    gathered: [u8; GATHERED],
}

impl<S: Stream> SpanSender<S> {
    /// A sender whose first span of each lane starts at `from`.
    pub(crate) fn new(stream: S, from: [Position; LANES], offered: Offered) -> SpanSender<S> {
        SpanSender {
            stream,
            lanes: from.map(|position| Progress {
                committed: position,
                pushed: position,
                told: 0,
            }),
            batch: [Span::NOTHING; BATCH],
            spans: 0,
            begun: 0,
            offered,
            gathered: [0; GATHERED],
        }
    }

    pub(crate) fn push_spans(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        // Producers may go on committing for ever; this call owes them what was there when it began.
        let owed = lanes.rings.each_ref().map(|ring| ring.claimed());
        loop {
            self.plan(lanes)?;
            if self.spans == 0 {
                return Ok(Push::Done);
            }
            if self.write(lanes)? == Push::Blocked {
                return Ok(Push::Blocked);
            }
            let more = self.batch[..self.spans].iter().any(|span| {
                let lane = span.header.lane.index();
                span.header.length > 0 && self.lanes[lane].pushed < owed[lane]
            });
            if !more {
                return Ok(Push::Done);
            }
        }
    }

    #[inline]
    fn plan(&mut self, lanes: &SendLanes) -> Result<(), LinkError> {
        self.spans = usize::from(self.begun > 0);
        for lane in Lane::ALL {
            let Progress {
                pushed: from, told, ..
            } = self.lanes[lane.index()];
            let acknowledged = lanes.acknowledged(lane);
            let length = match lanes.ring(lane).claimed() == from {
                true => 0,
                false => self.length_from(from, lane, lanes.ring(lane))?,
            };
            if length > 0 || acknowledged > told {
                let header = Header {
                    lane,
                    length,
                    acknowledged,
                };
                self.batch[self.spans] = Span { header, from };
                self.spans += 1;
            }
        }
        Ok(())
    }

    /// How long a span is that starts where the last one of the lane ended.
    ///
    /// Never inlined: most pushes have one lane to do it for, and find its code in the cache once instead of three times.
    #[inline(never)]
    fn length_from(&mut self, from: Position, lane: Lane, ring: &SendRing) -> Result<u32, LinkError> {
        let progress = &mut self.lanes[lane.index()];
        if progress.committed == from {
            // A peer that resumed before what it had acknowledged, or inside a frame: those bytes are not frames.
            let released = ring.released();
            if released > from {
                return Err(resumed(lane, from, &format!("but has consumed {released}")));
            }
            progress.committed = ring.committed(from, MAX_SPAN);
            if progress.committed > from && progress.committed > ring.claimed() {
                return Err(resumed(lane, from, "inside a frame"));
            }
        }
        let to = progress.committed.min(from + MAX_SPAN);
        self.offered.reaches(lane, to);
        Ok((to - from) as u32)
    }

    /// One write of the batch; records what went.
    #[inline]
    fn write(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        let spans = &self.batch[..self.spans];
        let total = spans.iter().map(Span::size).sum();
        // So many bytes are copied sooner than the system walks a list of pieces.
        let written = if total <= GATHERED {
            let mut room = &mut self.gathered[..];
            for span in spans {
                put(&mut room, &span.header.encode());
                for piece in span.bytes(lanes) {
                    put(&mut room, piece);
                }
            }
            self.stream_write(&[IoSlice::new(&self.gathered[self.begun..total])])?
        } else {
            self.write_pieces(lanes)?
        };
        let Some(written) = written else {
            return Ok(Push::Blocked);
        };
        let taken = self.begun + written;
        self.record(taken);
        // A short write has filled the socket: the system signals when there is room again.
        Ok(if taken == total { Push::Done } else { Push::Blocked })
    }

    /// Writes the batch from where its bytes are.
    fn write_pieces(&self, lanes: &SendLanes) -> Result<Option<usize>, LinkError> {
        let spans = &self.batch[..self.spans];
        let mut headers = [[0; HEADER]; BATCH];
        for (header, span) in headers.iter_mut().zip(spans) {
            *header = span.header.encode();
        }
        let mut slices = [IoSlice::new(&[]); BATCH * PIECES];
        let mut count = 0;
        for (header, span) in headers.iter().zip(spans) {
            let [first, second] = span.bytes(lanes);
            for piece in [header, first, second] {
                if !piece.is_empty() {
                    slices[count] = IoSlice::new(piece);
                    count += 1;
                }
            }
        }
        let mut slices = &mut slices[..count];
        IoSlice::advance_slices(&mut slices, self.begun);
        self.stream_write(slices)
    }

    /// How many bytes the socket took; `None` when it has no room.
    fn stream_write(&self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, LinkError> {
        loop {
            match self.stream.write(slices) {
                Ok(written) => return Ok(Some(written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(link_error(error)),
            }
        }
    }

    /// `taken` bytes of the batch are in the socket, those of earlier writes included.
    fn record(&mut self, mut taken: usize) {
        self.begun = 0;
        for span in &self.batch[..self.spans] {
            if taken == 0 {
                break;
            }
            let progress = &mut self.lanes[span.header.lane.index()];
            progress.pushed = progress.pushed.max(span.to());
            progress.told = progress.told.max(span.header.acknowledged);
            if taken < span.size() {
                self.begun = taken;
                self.batch[0] = *span;
                break;
            }
            taken -= span.size();
        }
    }
}

impl LinkSender for SpanSender<Connection> {
    fn push(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        self.push_spans(lanes)
    }
}

/// Copies a piece to where there is room, of which less is left then.
#[inline]
fn put(room: &mut &mut [u8], piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    let (here, rest) = std::mem::take(room).split_at_mut(piece.len());
    here.copy_from_slice(piece);
    *room = rest;
}

#[cold]
fn resumed(lane: Lane, from: Position, why: &str) -> LinkError {
    LinkError::Protocol(format!(
        "the peer resumed the {lane:?} lane at position {from}, {why}"
    ))
}

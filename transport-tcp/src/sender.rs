//! The pushing half: spans of the send rings go out, control first, several lanes in one write.
//!
//! A span that has begun is finished before anything else, because the peer counts its bytes; spans that did not get
//! into the socket are planned afresh, so that control which came in the meantime goes ahead of them.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use transport::lane::{LANES, Lane};
use transport::link::{LinkError, LinkSender, Push, SendLanes};
use transport::ring::Position;

use crate::socket::{Connection, Stream, link_error};
use crate::span::{HEADER, Header};

/// Longest span, in bytes: what control may have to wait for.
pub(crate) const MAX_SPAN: u64 = 128 << 10;

/// Most spans of one write: one of each lane, and the one that had begun.
const BATCH: usize = LANES + 1;

/// Writes of at most so many bytes go as one piece.
const GATHERED: usize = 2 << 10;

/// A header and the two pieces of a ring that wraps.
const PIECES: usize = 3;

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
    lane: Lane,
    header: [u8; HEADER],
    acknowledged: Position,
    from: Position,
    to: Position,
}

impl Span {
    /// Bytes on the wire.
    fn size(&self) -> usize {
        HEADER + (self.to - self.from) as usize
    }
}

/// The bytes of a span on the wire.
fn pieces<'l>(span: &'l Span, lanes: &'l SendLanes) -> [&'l [u8]; PIECES] {
    let [first, second] = lanes.ring(span.lane).span(span.from, span.to);
    [&span.header, first, second]
}

/// The spans of one write, in the order in which they go.
struct Batch {
    spans: [Option<Span>; BATCH],
    len: usize,
}

impl Batch {
    fn new() -> Batch {
        Batch {
            spans: [None; BATCH],
            len: 0,
        }
    }

    fn add(&mut self, span: Span) {
        self.spans[self.len] = Some(span);
        self.len += 1;
    }

    fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().flatten()
    }
}

/// Pushes spans into a stream.
pub(crate) struct SpanSender<S> {
    stream: S,
    lanes: [Progress; LANES],
    /// The span that the last write took in part, and how many of its bytes it took.
    begun: Option<(Span, usize)>,
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
            begun: None,
            offered,
            gathered: [0; GATHERED],
        }
    }

    pub(crate) fn push_spans(&mut self, lanes: &SendLanes) -> Result<Push, LinkError> {
        // Producers may go on committing for ever; this call owes them what was there when it began.
        let owed = lanes.rings.each_ref().map(|ring| ring.claimed());
        loop {
            let batch = self.plan(lanes)?;
            if batch.len == 0 {
                return Ok(Push::Done);
            }
            if self.write(lanes, &batch)? == Push::Blocked {
                return Ok(Push::Blocked);
            }
            let more = batch.iter().any(|span| {
                let lane = span.lane.index();
                span.to > span.from && self.lanes[lane].pushed < owed[lane]
            });
            if !more {
                return Ok(Push::Done);
            }
        }
    }

    fn plan(&mut self, lanes: &SendLanes) -> Result<Batch, LinkError> {
        let mut batch = Batch::new();
        if let Some((span, _)) = self.begun {
            batch.add(span);
        }
        for lane in Lane::ALL {
            if let Some(span) = self.next_span(lane, lanes)? {
                batch.add(span);
            }
        }
        Ok(batch)
    }

    #[inline]
    fn next_span(&mut self, lane: Lane, lanes: &SendLanes) -> Result<Option<Span>, LinkError> {
        let progress = &mut self.lanes[lane.index()];
        let from = progress.pushed;
        if progress.committed == from {
            let ring = lanes.ring(lane);
            // A peer that resumed before what it had acknowledged, or inside a frame: those bytes are not frames.
            if ring.released() > from {
                return Err(LinkError::Protocol(format!(
                    "the peer resumed the {lane:?} lane at position {from}, but has consumed {}",
                    ring.released()
                )));
            }
            progress.committed = ring.committed(from, MAX_SPAN);
            if progress.committed > from && progress.committed > ring.claimed() {
                return Err(LinkError::Protocol(format!(
                    "the peer resumed the {lane:?} lane at position {from}, inside a frame"
                )));
            }
        }
        let to = progress.committed.min(from + MAX_SPAN);
        let acknowledged = lanes.acknowledged(lane);
        if to == from && acknowledged <= progress.told {
            return Ok(None);
        }
        let header = Header {
            lane,
            length: (to - from) as u32,
            acknowledged,
        };
        Ok(Some(Span {
            lane,
            header: header.encode(),
            acknowledged,
            from,
            to,
        }))
    }

    /// One write of the whole batch; records what went.
    fn write(&mut self, lanes: &SendLanes, batch: &Batch) -> Result<Push, LinkError> {
        let done = self.begun.map_or(0, |(_, done)| done);
        let mut total = 0;
        for span in batch.iter() {
            total += span.size();
            if span.to > self.offered.position(span.lane) {
                self.offered.reaches(span.lane, span.to);
            }
        }
        // So many bytes are copied sooner than the system walks a list of pieces.
        let written = if total <= GATHERED {
            let mut len = 0;
            for piece in batch.iter().flat_map(|span| pieces(span, lanes)) {
                self.gathered[len..len + piece.len()].copy_from_slice(piece);
                len += piece.len();
            }
            self.stream_write(&[IoSlice::new(&self.gathered[done..len])])?
        } else {
            let mut slices = [IoSlice::new(&[]); BATCH * PIECES];
            let mut count = 0;
            for piece in batch.iter().flat_map(|span| pieces(span, lanes)) {
                if !piece.is_empty() {
                    slices[count] = IoSlice::new(piece);
                    count += 1;
                }
            }
            let mut slices = &mut slices[..count];
            IoSlice::advance_slices(&mut slices, done);
            self.stream_write(slices)?
        };
        let Some(written) = written else {
            return Ok(Push::Blocked);
        };
        self.record(batch, done + written);
        // A short write has filled the socket: the system signals when there is room again.
        Ok(if done + written == total {
            Push::Done
        } else {
            Push::Blocked
        })
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
    fn record(&mut self, batch: &Batch, mut taken: usize) {
        self.begun = None;
        for span in batch.iter() {
            if taken == 0 {
                break;
            }
            let progress = &mut self.lanes[span.lane.index()];
            progress.pushed = progress.pushed.max(span.to);
            progress.told = progress.told.max(span.acknowledged);
            if taken < span.size() {
                self.begun = Some((*span, taken));
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

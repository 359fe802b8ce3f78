//! The seam: what a transport must do for a node, in words.
//!
//! A **link** makes the bytes of the send rings of one side appear at the same positions of the receive rings of the
//! other. It carries bytes, not messages, and keeps nothing of its own: a link may die at any step and another one,
//! of the same transport or a different one, goes on from the positions that the peer has consumed.
//!
//! The contract of every implementation:
//!
//! 1. *Same bytes, same positions.* Bytes are taken from `SendRing::span` and written to the peer's ring at those
//!    positions; never past `SendRing::committed`, never what was not committed.
//! 2. *In order within a lane*, as [`Arrival`] defines order for this link. Lanes are independent of each other:
//!    control is pushed first, and a lane without credit never holds up another.
//! 3. *Nothing is held back.* After [`LinkSender::push`] returned [`Push::Done`], everything that was committed
//!    before the call is on its way without any further call. There are no timers: batches come from load.
//! 4. *Acknowledgement.* The position in `SendLanes::acknowledge` reaches the peer as `ReceiveLanes::credit` within a
//!    push that finds it further than what was last told; bytes above it are never overwritten before.
//! 5. *Death is reported.* A peer whose process ended, or a device that failed, makes `push` or `poll` return a
//!    [`LinkError`] (a silent peer is found by the node's heartbeat). After an error, the link is dropped, `poll` being asked
//!    before for what had arrived, and after the drop has returned nothing of it writes into the receive rings any more.
//! 6. *No trust.* Nothing that the peer sends may panic, block, or allocate without bound; it is a
//!    [`LinkError::Protocol`].
//! 7. *No lost wake-up.* When [`LinkReceiver::arm`] returned true and nothing has been polled since, whatever arrives
//!    afterwards makes one of the descriptors readable, and a poller that tells each change once tells of it, whatever lies
//!    there unread from before.
//! 8. `push` and `poll` never block; each is called by one thread at a time, but the two run concurrently.
//! 9. *Whole frames, where arrival is checked.* All bytes of a frame are taken from the send ring before any of them can
//!    reach the peer. A frame that ends in zeroes is whole to the peer before those have come; it may be acknowledged, and
//!    its place used anew, while what is late is still to be sent.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::frame::Integrity;
use crate::lane::{LANES, Lane, LaneSizes};
use crate::memory::RingMemory;
use crate::ring::{Arrival, Position, ReceiveRing, SendRing};

/// A way of reaching other nodes: how to listen, how to dial.
pub trait Transport: Send + Sync {
    /// The scheme of this transport's addresses, as in `tcp://127.0.0.1:7000`: `tcp`, `shm`, `rdma`.
    fn scheme(&self) -> &'static str;

    /// Whether links of this transport need [`Integrity::Checked`] to know a whole frame.
    fn needs_checksums(&self) -> bool {
        false
    }

    /// What has been counted below the links, all of this transport's together, since it was made: a name and a number for
    /// each figure, for [`crate::observe`]. Nothing by default.
    fn figures(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Starts to listen on an address without its scheme.
    ///
    /// # Errors
    /// [`TransportError`]: the address does not parse, is in use, or the device is missing.
    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError>;

    /// Opens a wire to a listener; gives up at the deadline.
    ///
    /// # Errors
    /// [`TransportError`]: nobody listens there, or the device is missing. [`TransportError::is_refusal`] of it holds where the
    /// host has answered that nobody listens there, and never where it has not answered.
    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError>;
}

impl Transport for Arc<dyn Transport> {
    fn scheme(&self) -> &'static str {
        (**self).scheme()
    }

    fn needs_checksums(&self) -> bool {
        (**self).needs_checksums()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        (**self).figures()
    }

    fn listen(&self, address: &str) -> Result<Box<dyn Listener>, TransportError> {
        (**self).listen(address)
    }

    fn dial(&self, address: &str, deadline: Instant) -> Result<Box<dyn Wire>, TransportError> {
        (**self).dial(address, deadline)
    }
}

/// A listening address.
pub trait Listener: Send {
    /// The address as others dial it, without scheme, with the port that the system chose.
    fn address(&self) -> String;

    /// The next peer that has dialled, if there is one. Never blocks.
    ///
    /// # Errors
    /// [`TransportError`] for what concerns the listener itself; a single broken peer is not an error.
    fn accept(&mut self) -> Result<Option<Box<dyn Wire>>, TransportError>;

    /// Readable when somebody has dialled.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// Memory of a session's three rings of one direction.
pub type LaneMemory = [RingMemory; LANES];

/// The longest handshake message, in bytes.
pub const MAX_HANDSHAKE: usize = 4096;

/// Ends a wire from another thread, with a last handshake message if that can be sent without waiting. After the wire has
/// become a link or is gone, it must do no harm.
pub type HangUp = Box<dyn FnOnce(&[u8]) + Send>;

/// The two ends of a connection, as one of them sees it: each an address of the transport, of at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The end of whoever looks.
    pub own: String,
    /// The other one; of a wire that was dialled, what [`Transport::dial`] takes.
    pub peer: String,
}

impl Ends {
    /// Whether both speak of one connection: then nobody stands between the two hosts who ends connections, or changes addresses.
    pub(crate) fn meet(&self, others: &Ends) -> bool {
        self.own == others.peer && self.peer == others.own
    }
}

/// A connection on which no ring runs yet: it carries the handshake, then becomes a link.
///
/// The order of calls on either side: any number of `send` and `receive`; `receive_memory` (new sessions only);
/// `offer`, once; after the peer's offer has come, `send_memory` (new sessions only); `link`.
pub trait Wire: Send {
    /// Whom this reaches, for people.
    fn peer(&self) -> String;

    /// The host that this reaches, as far as the transport knows it: guests are counted by it. See [`crate::host::source_of`].
    fn source(&self) -> String {
        self.peer()
    }

    /// The ends of the connection that carries the handshake. Where both sides see the same, the peer listens at one of them, and
    /// a refusal at that address is its host's ([`Transport::dial`]). `None`, the default, where the transport has no such thing.
    fn ends(&self) -> Option<Ends> {
        None
    }

    /// What ends this wire from another thread, so that a blocked `receive` returns at once; `None` where the
    /// transport has no such thing.
    fn hang_up(&self) -> Option<HangUp> {
        None
    }

    /// Sends one handshake message of at most [`MAX_HANDSHAKE`] bytes; blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LinkError`] when the peer is gone or does not read.
    fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), LinkError>;

    /// Receives one handshake message of at most [`MAX_HANDSHAKE`] bytes; blocks until `deadline` at most.
    ///
    /// # Errors
    /// [`LinkError`] when the peer is gone, is silent, or sends something longer.
    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError>;

    /// Zeroed memory that the peer's bytes are to appear in, for a new session.
    ///
    /// # Errors
    /// [`LinkError::Io`] when there is no memory.
    fn receive_memory(&mut self, sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
        anonymous_lanes(sizes)
    }

    /// Describes to the peer how its writes reach `receive`, in at most 1 KiB that only this transport reads.
    ///
    /// # Errors
    /// [`LinkError`] when the device refuses, saying what is missing.
    fn offer(&mut self, receive: &LaneMemory) -> Result<Vec<u8>, LinkError>;

    /// Zeroed memory for the send rings of a new session, mirrored by the rings of the peer's `offer`.
    ///
    /// # Errors
    /// [`LinkError`] when there is no memory, or the offer makes no sense.
    fn send_memory(&mut self, sizes: &LaneSizes, offer: &[u8]) -> Result<SendMemory, LinkError> {
        let _ = offer;
        Ok(SendMemory {
            rings: anonymous_lanes(sizes)?,
            cells: None,
        })
    }

    /// Turns the wire into a link between `memory` and the peer's `offer`, pushing from `from` on.
    ///
    /// # Errors
    /// [`LinkError`] when the device refuses or the offer makes no sense.
    fn link(
        self: Box<Self>,
        memory: &LinkMemory,
        offer: &[u8],
        from: [Position; LANES],
    ) -> Result<Link, LinkError>;
}

/// Memory of the send rings, and where the rings are shared with the peer, the cells ([`CELL`](crate::ring::CELL) bytes each) in
/// which the peer says what it has consumed.
pub struct SendMemory {
    /// The rings.
    pub rings: LaneMemory,
    /// The cells, where the peer maps the same rings.
    pub cells: Option<LaneMemory>,
}

/// All the ring memory of a session.
pub struct LinkMemory {
    /// What this side commits into.
    pub send: LaneMemory,
    /// What this side reads from.
    pub receive: LaneMemory,
}

/// Private memory for the rings of one direction.
///
/// # Errors
/// [`LinkError::Io`] when the system has none left.
pub fn anonymous_lanes(sizes: &LaneSizes) -> Result<LaneMemory, LinkError> {
    let ring = |lane| RingMemory::anonymous(sizes.of(lane) as usize);
    Ok([ring(Lane::Control)?, ring(Lane::Ordinary)?, ring(Lane::Large)?])
}

/// The rings of one direction side by side in `memory`, the longest first, so that each starts on a multiple of its length.
///
/// # Panics
/// When the memory is shorter than the rings together.
pub fn lanes_in(memory: &RingMemory, sizes: &LaneSizes) -> LaneMemory {
    let mut longest_first = Lane::ALL;
    longest_first.sort_by_key(|lane| std::cmp::Reverse(sizes.of(*lane)));
    Lane::ALL.map(|lane| {
        let before = longest_first.iter().take_while(|other| **other != lane);
        let offset: usize = before.map(|other| sizes.of(*other) as usize).sum();
        memory.slice(offset, sizes.of(lane) as usize)
    })
}

/// A running link, in its two halves.
pub struct Link {
    /// Pushes what was committed.
    pub sender: Box<dyn LinkSender>,
    /// Takes in what arrives.
    pub receiver: Box<dyn LinkReceiver>,
    /// How the receiver's rings tell that a frame is whole. Frames of the large lane carry no checksums, so a link
    /// whose arrival is [`Arrival::Checked`] has to count there: see [`Arrival::of`].
    pub arrival: Arrival,
    /// Where a committed frame is visible to the peer at once: how to wake the peer, if it sleeps. Then `push` is
    /// called for acknowledgements alone.
    pub doorbell: Option<Arc<dyn Doorbell>>,
    /// Where the peer maps the receive rings: the cells in which it is told of each frame that is consumed.
    pub cells: Option<LaneMemory>,
    /// What was chosen for this link, for people: device, receive method, limits.
    pub description: String,
}

/// Wakes a sleeping peer that reads the same memory.
pub trait Doorbell: Send + Sync {
    /// Called after a commit, from any thread. Orders the commit before its look at whether the peer sleeps.
    fn ring(&self);
}

/// What a push achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Everything committed is on its way.
    Done,
    /// The device or the socket takes no more for now. Push again when a descriptor is ready, or soon.
    Blocked,
}

/// The half of a link that pushes.
pub trait LinkSender: Send {
    /// Pushes what is committed and was not pushed before, control lane first, and the acknowledgements that are due.
    ///
    /// # Errors
    /// [`LinkError`]: the link is dead.
    fn push(&mut self, lanes: &SendLanes) -> Result<Push, LinkError>;

    /// Whether it takes payloads from where they were written, and so asks the large lane's ring for
    /// [`SendRing::gathered_piece`]. A link that does not finds them in the ring.
    fn gathers(&self) -> bool {
        false
    }
}

/// The half of a link that receives.
pub trait LinkReceiver: Send {
    /// Moves what has arrived into the rings, and the peer's acknowledgements into `lanes.credit`. Cheap when
    /// nothing has. Returns whether the rings or the credit may have changed.
    ///
    /// # Errors
    /// [`LinkError`]: the link is dead. What was already in the rings is still good.
    fn poll(&mut self, lanes: &mut ReceiveLanes) -> Result<bool, LinkError>;

    /// Looks at memory again and again for some 100 ns: whether a poll would find something. Where polling makes system calls,
    /// not at all.
    fn linger(&self, lanes: &ReceiveLanes) -> bool {
        let _ = lanes;
        false
    }

    /// Prepares to sleep until something comes that the last poll has not taken in. False when it has come in the
    /// meantime: poll again instead. Called again before that, it says the same.
    ///
    /// Only what comes later wakes. Whoever arms after a poll that brought credit, and does not first use it, may sleep for
    /// ever: the peer has said all it had to say.
    ///
    /// # Errors
    /// [`LinkError`]: the link is dead.
    fn arm(&mut self, lanes: &ReceiveLanes) -> Result<bool, LinkError>;

    /// Somebody waits on the descriptors, each change of which is told apart, and has been told since the last poll: `closed`
    /// when the other side had closed its end by then. A receiver that takes in less than it asked for needs no further look
    /// then whether that was all: the end, too, is told. Never called where nothing of the kind is known.
    fn told(&mut self, closed: bool) {
        let _ = closed;
    }

    /// What to wait on while asleep: readable means poll and push again. Where polling takes a system call, so does writable
    /// after a push was blocked; a receiver that polls memory is asked for nothing but readable.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether an empty poll reads memory alone (nanoseconds) and makes no system call.
    fn polls_memory(&self) -> bool;
}

/// What this side sends, and what it acknowledges.
pub struct SendLanes {
    /// The send rings, by lane.
    pub rings: [SendRing; LANES],
    /// How far this side has consumed the peer's rings and wants the peer to know, by lane.
    pub acknowledge: [AtomicU64; LANES],
}

impl SendLanes {
    /// Send rings over the given memory.
    pub fn new(memory: SendMemory, integrity: Integrity) -> SendLanes {
        let mut cells = memory.cells.map(|cells| cells.into_iter());
        let rings =
            with_lanes(memory.rings).map(|(lane, ring)| match cells.as_mut().and_then(Iterator::next) {
                Some(cell) => SendRing::shared(ring, cell),
                None => SendRing::new(ring, integrity.of(lane)),
            });
        SendLanes {
            rings,
            acknowledge: Default::default(),
        }
    }

    /// The ring of a lane.
    #[inline]
    pub fn ring(&self, lane: Lane) -> &SendRing {
        &self.rings[lane.index()]
    }

    /// The position to tell the peer for a lane of its rings.
    #[inline]
    pub fn acknowledged(&self, lane: Lane) -> Position {
        self.acknowledge[lane.index()].load(Ordering::Acquire)
    }
}

fn with_lanes(memory: LaneMemory) -> [(Lane, RingMemory); LANES] {
    let mut lanes = Lane::ALL.into_iter();
    memory.map(|ring| (lanes.next().unwrap_or(Lane::Large), ring))
}

/// What this side receives.
pub struct ReceiveLanes {
    /// The receive rings, by lane.
    pub rings: [ReceiveRing; LANES],
    /// How far the peer says it has consumed this side's send rings, by lane. Not yet believed: `SendRing::release`
    /// checks it.
    pub credit: [Position; LANES],
    /// What stands in the large lane has to wait for the ordinary lane.
    pub(crate) held_up: bool,
}

impl ReceiveLanes {
    /// Receive rings over the given memory.
    pub fn new(memory: LaneMemory, integrity: Integrity, arrival: Arrival) -> ReceiveLanes {
        ReceiveLanes {
            rings: with_lanes(memory)
                .map(|(lane, ring)| ReceiveRing::new(ring, integrity.of(lane), arrival.of(lane))),
            credit: [0; LANES],
            held_up: false,
        }
    }

    /// The rings of which what has arrived is handed out at once: all, but for the large one while what stands there has to wait
    /// for another lane. So a link that looks for a reason to stay awake looks at these.
    #[inline]
    pub fn handed_out(&self) -> impl Iterator<Item = &ReceiveRing> {
        let last = if self.held_up { Lane::Large.index() } else { LANES };
        self.rings[..last].iter()
    }

    /// Tells the sender, which maps the same rings, of each frame that is consumed: [`ReceiveRing::tell_in`].
    pub fn tell_in(&mut self, cells: LaneMemory) {
        for (ring, cell) in self.rings.iter_mut().zip(cells) {
            ring.tell_in(cell);
        }
    }

    /// The ring of a lane.
    #[inline]
    pub fn ring(&mut self, lane: Lane) -> &mut ReceiveRing {
        &mut self.rings[lane.index()]
    }
}

/// Why a link died, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed the link, or its process ended.
    #[error("the peer closed the link")]
    Closed,
    /// The peer did not answer in time.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The peer sent what no correct peer sends.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a transport can't listen or dial.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address does not parse.
    #[error("address {address:?} is not valid for {scheme}: {reason}")]
    BadAddress {
        /// The transport's scheme.
        scheme: &'static str,
        /// What was given.
        address: String,
        /// What is wrong, and what it should look like.
        reason: String,
    },
    /// Somebody else listens there.
    #[error("address {address} is in use: stop the process that listens there, or choose another")]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// What the transport runs on is not there.
    #[error("{scheme} is not available here: {missing}")]
    Unavailable {
        /// The transport's scheme.
        scheme: &'static str,
        /// Which part is missing and what mends it.
        missing: String,
    },
    /// Nobody could be reached.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The operating system said no.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl TransportError {
    /// Whether the host has answered that nobody listens at the address: of a name with several addresses, the last one.
    pub fn is_refusal(&self) -> bool {
        let TransportError::Unreachable { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::ConnectionRefused
    }
}

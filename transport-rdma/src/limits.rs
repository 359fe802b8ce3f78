//! Every constant that can be tuned, in one place, with what it trades.

/// Bytes of one span: as much as goes out before the control lane is looked at again.
pub(crate) const SPAN: u64 = 256 << 10;
/// Bytes of one span of the large lane, or one frame, if that is more: what the other lanes may have to wait for.
pub(crate) const LARGE_SPAN: u64 = 64 << 10;

/// Bytes of the large lane that may go out, while more of it waits, before a peer that sleeps is woken, ...
pub(crate) const QUIET_SPAN: u64 = 256 << 10;
/// ... and no more than this part of the ring: what a sleeper leaves standing must never be what the sender waits for.
pub(crate) const QUIET_PART: u64 = 8;

/// Writes of one span: two where the ring wraps.
pub(crate) const PIECES: usize = 2;

/// Most requests that one look over the lanes makes: each lane's span, and its acknowledgement.
pub(crate) const BATCH: usize = (PIECES + 1) * transport::lane::LANES;

/// Empty polls between two looks at what costs a system call: whether the peer's process still lives.
/// At 10 ns for a poll, one system call in 160 us.
pub(crate) const POLLS_BETWEEN_INSPECTIONS: u32 = 1 << 14;

/// Looks at memory in which a receiver with no other peer lingers when there is nothing: half of what the rest of the node's poll
/// takes, so that a frame that comes is more often seen at once. Four times as many have not been seen to gain anything.
pub(crate) const LINGERING_LOOKS: u32 = 32;

/// Bytes from one cell that another process or device writes to the next: two cache lines, because the prefetcher
/// takes lines in pairs.
pub(crate) const CELL: usize = 128;

/// Handshakes of peers that have dialled and were not yet accepted.
pub(crate) const BACKLOG: i32 = 128;

/// What concerns libibverbs.
#[cfg(feature = "verbs")]
pub(crate) mod verbs {
    use std::time::Duration;

    /// Spans of the large lane that the device works on at once: enough to keep it busy while the next is prepared, and
    /// no more, because everything posted later comes behind them.
    pub(crate) const LARGE_SPANS: usize = 2;
    /// Buffers that a connection keeps registered at once, ...
    pub(crate) const LENT_REGIONS: usize = 64;
    /// ... and how many bytes they may have together: what is longer is copied.
    pub(crate) const LENT_BYTES: usize = 64 << 20;
    /// Work requests that a send queue holds, unless the device allows fewer.
    pub(crate) const SEND_DEPTH: u32 = 256;
    /// One work request in so many asks for a completion: four completions tell of a full queue.
    pub(crate) const SIGNALS_PER_QUEUE: u32 = 4;
    /// Receive work requests, for the wake-ups of a sleeper, unless the device allows fewer.
    pub(crate) const RECEIVE_DEPTH: u32 = 128;
    /// Inline sizes to ask the device for, best first. A frame that fits goes out without a look at its memory by
    /// the device. The last one holds a cell, without which there is no link.
    pub(crate) const INLINE: [u32; 5] = [512, 256, 128, 64, 32];
    /// A work request that is not acknowledged is sent again after 4.096 us * 2^TIMEOUT (268 ms), ...
    pub(crate) const TIMEOUT: u8 = 16;
    /// ... this many times: a host that is gone is noticed after 2.1 s.
    pub(crate) const RETRIES: u8 = 7;
    /// A sleeper without a receive work request is tried again after 0.64 ms (0 would mean 655 ms), ...
    pub(crate) const RNR_TIMER: u8 = 12;
    /// ... for ever: a receiver that does not poll is slow, not dead.
    pub(crate) const RNR_RETRIES: u8 = 7;
    /// First and longest sleep before the peer has confirmed that it will wake us: each is double the one before.
    pub(crate) const UNCONFIRMED_SLEEP: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(64)];
    /// Time between two looks at whether the device is still of use, each of which costs two system calls. Whoever removes
    /// a soft-RoCE device may have to wait for so long, and for as long as an idle link sleeps: a heartbeat.
    pub(crate) const DEVICE_LOOKS: Duration = Duration::from_millis(100);
    /// Wake-ups that came without a sleep between them, after which the peer is told to stop sending any.
    pub(crate) const WAKES_WITHOUT_SLEEP: u32 = 64;
}

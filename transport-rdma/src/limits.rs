//! Every constant that can be tuned, in one place, with what it trades.

/// Bytes of one span: as much as goes out before the control lane is looked at again.
pub(crate) const SPAN: u64 = 256 << 10;

/// Most requests that one look over the lanes makes: each lane's span in two pieces, and its acknowledgement.
pub(crate) const BATCH: usize = 3 * transport::lane::LANES;

/// Empty polls between two looks at what costs a system call: whether the peer's process still lives.
/// At 10 ns for a poll, one system call in 160 us.
pub(crate) const POLLS_BETWEEN_INSPECTIONS: u32 = 1 << 14;

/// Bytes from one cell that another process or device writes to the next: two cache lines, because the prefetcher
/// takes lines in pairs.
pub(crate) const CELL: usize = 128;

/// Handshakes of peers that have dialled and were not yet accepted.
pub(crate) const BACKLOG: i32 = 128;

//! Buffers: memory that a message is written into, and sent from without a copy where the link can.
//!
//! [`crate::Node::buffer`] hands one out, [`crate::Address::send_buffer`] takes it. While it is under way a buffer belongs to
//! nobody who could write to it: it returns to the node's pool when the peer has consumed the last of it, or when the link
//! is lost and what was under way has been copied into the ring. So whoever asks for buffers again and again is given
//! the same memory, which a device has to register once.

#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::memory::RingMemory;
use crate::wait::lock;

/// Bytes of the least buffer: a page.
const LEAST: usize = 4096;
/// The longest buffer, in bytes: as long as the longest message.
pub const MAX_BUFFER: usize = 1 << 30;
/// Bytes that a node keeps in buffers that nobody uses.
const KEPT: usize = 32 << 20;

/// A message in the making, in memory that links can send from.
///
/// Its bytes are whatever an earlier message of this node left there, zero at first: write all of them.
pub struct Buffer {
    hold: Hold,
    len: usize,
}

impl Buffer {
    /// Makes it shorter; longer it cannot become.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The buffer, unless a part of it is under way.
    pub(crate) fn unless_lent(self) -> Option<Buffer> {
        (self.hold.0.holders.load(Ordering::Acquire) == 1).then_some(self)
    }

    /// A part of it, for a frame.
    pub(crate) fn part(&self, range: Range<usize>) -> Part {
        assert!(range.start <= range.end && range.end <= self.len);
        Part {
            hold: self.hold.clone(),
            offset: range.start,
            len: range.len(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: inside the memory, which is never shorter than the buffer. Who may write to it is the buffer that `&self`
        // borrows, and nobody else: see `deref_mut`.
        unsafe { self.hold.0.memory.bytes(0, self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside the memory. A buffer that its owner can reach is the only holder: it is made as such, parts of it are
        // lent by operations that take it, and they give it back only when no part is held (`unless_lent`).
        unsafe { self.hold.0.memory.bytes_mut(0, self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A part of a buffer that is under way. While there is one, nobody writes to the buffer.
#[derive(Clone)]
pub struct Part {
    hold: Hold,
    offset: usize,
    len: usize,
}

impl Part {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: inside the memory, as was checked when the part was made; nobody writes while it is held.
        unsafe { self.hold.0.memory.bytes(self.offset, self.len) }
    }

    /// The memory of the whole buffer, for registration with a device.
    pub fn memory(&self) -> &RingMemory {
        &self.hold.0.memory
    }

    /// Where in that memory the part starts, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

/// Memory of a pool, and how many use it.
struct Lease {
    memory: RingMemory,
    holders: AtomicUsize,
    pool: Weak<BufferPool>,
}

/// One use of a lease. The last one gives it back. Counted apart from the reference count, so that giving back and handing
/// out again allocates nothing.
struct Hold(Arc<Lease>);

impl Clone for Hold {
    fn clone(&self) -> Hold {
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        Hold(self.0.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Release: whoever is handed the memory next writes after the last look of this one; acquire: after those of others.
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(pool) = self.0.pool.upgrade()
        {
            pool.keep(&self.0);
        }
    }
}

/// The buffers of a node that nobody uses.
#[derive(Default)]
pub(crate) struct BufferPool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    leases: Vec<Arc<Lease>>,
    bytes: usize,
}

impl BufferPool {
    /// A buffer of `len` bytes.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> io::Result<Buffer> {
        if len > MAX_BUFFER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a buffer of {len} bytes, at most {MAX_BUFFER} are possible"),
            ));
        }
        // Powers of two, so that buffers of about the same length are the same.
        let size = len.next_power_of_two().max(LEAST);
        if let Some(lease) = self.reuse(size) {
            lease.holders.store(1, Ordering::Relaxed);
            return Ok(Buffer {
                hold: Hold(lease),
                len,
            });
        }
        let lease = Lease {
            memory: RingMemory::anonymous(size)?,
            holders: AtomicUsize::new(1),
            pool: Arc::downgrade(self),
        };
        Ok(Buffer {
            hold: Hold(Arc::new(lease)),
            len,
        })
    }

    /// One of this size that nobody uses: the last that was given back, which the caches know best.
    fn reuse(&self, size: usize) -> Option<Arc<Lease>> {
        let mut kept = lock(&self.kept);
        let at = kept.leases.iter().rposition(|lease| lease.memory.len() == size)?;
        kept.bytes -= size;
        Some(kept.leases.remove(at))
    }

    fn keep(&self, lease: &Arc<Lease>) {
        let mut kept = lock(&self.kept);
        if kept.bytes + lease.memory.len() <= KEPT {
            kept.bytes += lease.memory.len();
            kept.leases.push(lease.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_its_last_part_is_dropped() {
        let pool = Arc::new(BufferPool::default());
        let mut first = pool.take(5000).unwrap();
        assert_eq!((first.len(), first.iter().max()), (5000, Some(&0)));
        first.fill(7);
        let memory = first.as_ptr();
        let parts = [first.part(0..10), first.part(10..5000)];
        let first = first.unless_lent();
        assert!(first.is_none(), "parts of it are under way");
        let other = pool.take(5000).unwrap();
        assert_ne!(other.as_ptr(), memory, "the first is under way");
        assert_eq!(parts[1].bytes(), [7; 4990]);
        drop(parts);
        let again = pool.take(8192).unwrap();
        assert_eq!(
            (again.as_ptr(), again[4999]),
            (memory, 7),
            "of the same size class"
        );
        assert!(again.unless_lent().is_some());
    }

    #[test]
    fn idle_buffers_beyond_the_bound_and_those_of_a_pool_that_is_gone_are_given_up() {
        let pool = Arc::new(BufferPool::default());
        let buffers: Vec<_> = (0..40).map(|_| pool.take(1 << 20).unwrap()).collect();
        drop(buffers);
        assert_eq!(lock(&pool.kept).bytes, KEPT);
        assert!(pool.take(MAX_BUFFER + 1).is_err());
        let last = pool.take(10).unwrap();
        drop(pool);
        assert_eq!(last.len(), 10);
    }
}

//! Stores that go around the cache, and the fence that waits for them.
//!
//! The only promise: after [`copy`] and then [`fence`] on one thread, the bytes have left the CPU for the memory
//! controller, which on an ADR platform is inside the power-fail domain.

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si64, _mm_stream_si128};

use crate::format::Encoded;

/// Copies `bytes` to `to` with non-temporal stores.
///
/// # Safety
/// `to..to + bytes.len()` is writable, 16-byte aligned at both ends, and no reference into it exists.
#[inline]
pub(super) unsafe fn copy(to: *mut u8, bytes: &[u8]) {
    debug_assert!(to.addr().is_multiple_of(16) && bytes.len().is_multiple_of(16));
    let (lines, rest) = bytes.as_chunks::<64>();
    let mut at = 0;
    for line in lines {
        // SAFETY: as many bytes are left on both sides; the caller promised alignment.
        unsafe {
            sixteen(to.add(at), line.as_ptr());
            sixteen(to.add(at + 16), line.as_ptr().add(16));
            sixteen(to.add(at + 32), line.as_ptr().add(32));
            sixteen(to.add(at + 48), line.as_ptr().add(48));
        }
        at += 64;
    }
    for part in rest.as_chunks::<16>().0 {
        // SAFETY: as above.
        unsafe { sixteen(to.add(at), part.as_ptr()) };
        at += 16;
    }
}

/// # Safety
/// 16 bytes from `from` are readable, and as many from `to`, which is aligned, writable.
#[inline(always)]
unsafe fn sixteen(to: *mut u8, from: *const u8) {
    // SAFETY: promised by the caller; the load needs no alignment. SSE2 is part of x86_64.
    unsafe { _mm_stream_si128(to.cast::<__m128i>(), _mm_loadu_si128(from.cast::<__m128i>())) };
}

/// Writes a record with non-temporal stores: the header out of registers, key, extension and payload from where they
/// are, and zeroes up to the next multiple of 16.
///
/// # Safety
/// `record.padded_len()` bytes from `to` are writable, `to` is 16-byte aligned, and no reference into them exists.
#[inline]
pub(super) unsafe fn record(to: *mut u8, record: &Encoded<'_>) {
    debug_assert!(to.addr().is_multiple_of(16));
    let mut at = 0;
    // Word by word, as it was made: a wider load of two words that have just been stored finds them in no single entry of the
    // CPU's store queue, so it would wait until both have left it, which is behind the fence of the append before.
    for word in record.header {
        // SAFETY: the header is the first 64 bytes of the range; SSE2 is part of x86_64.
        unsafe { _mm_stream_si64(to.add(at).cast(), word as i64) };
        at += 8;
    }
    if !record.prefix.is_empty() {
        // SAFETY: prefix and payload with the padding are the range behind the header.
        unsafe { joined(to.add(at), record) };
        return;
    }
    let (whole, rest) = record.payload.split_at(record.payload.len() & !15);
    // SAFETY: the whole sixteens of the payload follow the header inside the range.
    unsafe { copy(to.add(at), whole) };
    if !rest.is_empty() {
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: the padded rest is the last 16 bytes of the range.
        unsafe { copy(to.add(at + whole.len()), &last) };
    }
}

/// Writes key, extension and payload, which are of any length each: one copy aligns them.
///
/// # Safety
/// Their length, padded to 16, is writable at `to`, which is 16-byte aligned, and no reference into it exists.
#[cold]
unsafe fn joined(to: *mut u8, record: &Encoded<'_>) {
    let joined = [record.prefix, record.payload, &[0; 15]].concat();
    let len = (record.prefix.len() + record.payload.len()).next_multiple_of(16);
    // SAFETY: promised by the caller.
    unsafe { copy(to, &joined[..len]) };
}

/// Waits until every earlier store of this thread is in the power-fail domain.
pub(super) fn fence() {
    // SAFETY: SSE is part of x86_64; a fence touches no memory.
    unsafe { _mm_sfence() };
}

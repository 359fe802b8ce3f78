//! Stores that go around the cache, and the fence that waits for them.
//!
//! The only promise: after [`copy`] and then [`fence`] on one thread, the bytes have left the CPU for the memory
//! controller, which on an ADR platform is inside the power-fail domain.

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

/// Copies `bytes` to `to` with non-temporal stores.
///
/// # Safety
/// `to..to + bytes.len()` is writable, 16-byte aligned at both ends, and no reference into it exists.
pub(super) unsafe fn copy(to: *mut u8, bytes: &[u8]) {
    debug_assert!(to.addr().is_multiple_of(16) && bytes.len().is_multiple_of(16));
    let from = bytes.as_ptr();
    let mut at = 0;
    while at + 16 <= bytes.len() {
        // SAFETY: `at + 16 <= len`, so both sides are inside their ranges; the caller promised alignment of `to`,
        // and the load needs none. SSE2 is part of x86_64.
        unsafe {
            _mm_stream_si128(
                to.add(at).cast::<__m128i>(),
                _mm_loadu_si128(from.add(at).cast::<__m128i>()),
            )
        };
        at += 16;
    }
}

/// Waits until every earlier store of this thread is in the power-fail domain.
pub(super) fn fence() {
    // SAFETY: SSE is part of x86_64; a fence touches no memory.
    unsafe { _mm_sfence() };
}

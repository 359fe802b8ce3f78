//! One chain of the CPU's `crc32` instruction: for headers, which are in registers, and for what is left over beside wider ways.
//! States are checksums not yet inverted.

use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

/// Takes in a record's header without its first four bytes.
#[target_feature(enable = "sse4.2")]
#[inline]
pub(super) fn header(state: u32, words: &[u64; 8]) -> u32 {
    let mut state = u64::from(_mm_crc32_u32(state, (words[0] >> 32) as u32));
    for word in &words[1..] {
        state = _mm_crc32_u64(state, *word);
    }
    state as u32
}

/// Takes in `bytes`.
#[target_feature(enable = "sse4.2")]
#[inline]
pub(super) fn bytes(state: u32, bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut state = u64::from(state);
    for eight in eights {
        state = _mm_crc32_u64(state, u64::from_le_bytes(*eight));
    }
    let mut state = state as u32;
    let (four, rest) = rest.as_chunks::<4>();
    if let [four] = four {
        state = _mm_crc32_u32(state, u32::from_le_bytes(*four));
    }
    for byte in rest {
        state = _mm_crc32_u8(state, *byte);
    }
    state
}

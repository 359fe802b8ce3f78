//! Three chains of the CPU's `crc32` instruction side by side, joined by carry-less multiplication with powers of x (Gopal et al., Fast CRC
//! Computation for iSCSI Polynomial Using CRC32 Instruction, Intel 2011). One chain alone waits three cycles for each word.

use std::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_xor_si128,
};

use super::chain;

/// Fewer bytes are done sooner by one chain.
const SHORTEST: usize = 144;
/// More bytes are done sooner by the crate, which has longer streams.
const LONGEST: usize = 1536;

/// Whether it takes so many bytes.
#[inline]
pub(super) fn fits(len: usize) -> bool {
    (SHORTEST..=LONGEST).contains(&len)
}

#[inline]
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
}

/// x to the power of 64 n - 33 modulo the polynomial, bits reversed, for the n of all stream lengths.
static POWERS: [u32; LONGEST / 8 + 2] = powers();

const fn powers() -> [u32; LONGEST / 8 + 2] {
    let mut out = [0; LONGEST / 8 + 2];
    let mut power: u32 = 0x8000_0000; // x^0
    let mut exponent = 0;
    let mut n = 1;
    while n < out.len() {
        while exponent < 64 * n - 33 {
            power = (power >> 1) ^ if power & 1 == 1 { 0x82f6_3b78 } else { 0 };
            exponent += 1;
        }
        out[n] = power;
        n += 1;
    }
    out
}

/// The checksum of a record whose header is in registers, started from `crc`; the payload's length [`fits`].
#[target_feature(enable = "sse4.2,pclmulqdq")]
pub(super) fn of_record(crc: u32, header: &[u64; 8], payload: &[u8]) -> u32 {
    append(!chain::header(!crc, header), payload)
}

/// The checksum of `bytes`, started from `crc`; their number [`fits`].
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
    let each = bytes.len() / 24 * 8;
    let (a, rest) = bytes.split_at(each);
    let (b, rest) = rest.split_at(each);
    let (c, tail) = rest.split_at(each);
    let (mut x, mut y, mut z) = (u64::from(!crc), 0, 0);
    let word = |eight: &[u8; 8]| u64::from_le_bytes(*eight);
    let (a, b, c) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0, c.as_chunks::<8>().0);
    let Some((last, c)) = c.split_last() else {
        return crc32c::crc32c_append(crc, bytes);
    };
    // The third stream lacks its last word, which takes the other two in.
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        x = _mm_crc32_u64(x, word(a));
        y = _mm_crc32_u64(y, word(b));
        z = _mm_crc32_u64(z, word(c));
    }
    if let (Some(a), Some(b)) = (a.last(), b.last()) {
        x = _mm_crc32_u64(x, word(a));
        y = _mm_crc32_u64(y, word(b));
    }
    let words = each / 8;
    let joined = _mm_xor_si128(shift(x, 2 * words), shift(y, words));
    let state = _mm_crc32_u64(z, word(last) ^ _mm_cvtsi128_si64(joined) as u64);
    !chain::bytes(state as u32, tail)
}

/// The checksum times x to the power that `words` words of zeroes behind it would bring, not yet reduced.
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn shift(crc: u64, words: usize) -> std::arch::x86_64::__m128i {
    let power = POWERS[words];
    _mm_clmulepi64_si128::<0>(_mm_cvtsi32_si128(crc as i32), _mm_cvtsi32_si128(power as i32))
}

//! CRC32C of records: as `crc32c`, and faster where records are: a header of eight words in registers, and payloads of
//! a few hundred bytes, which one chain of `crc32` instructions would wait for.
//!
//! Payloads are read as three streams at once, whose checksums are joined by carry-less multiplication with powers of
//! x (Gopal et al., Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction, Intel 2011). Everything else,
//! and every other CPU, goes through the crate.
//!
//! The unsafe blocks call functions that need CPU features; each is sound because the features were detected.

/// The checksum of `bytes`, started from `crc`.
#[inline]
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if (x86::SHORTEST..=x86::LONGEST).contains(&bytes.len()) && x86::detected() {
        // SAFETY: SSE4.2 and PCLMULQDQ were detected.
        return unsafe { x86::three_streams(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// The checksum of a record: of its header without the first four bytes (the words are little-endian), of key and extension, and
/// of the payload, started from `crc`.
#[inline]
pub(crate) fn of_record(crc: u32, header: &[u64; 8], prefix: &[u8], payload: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if prefix.is_empty() && (x86::SHORTEST..=x86::LONGEST).contains(&payload.len()) && x86::detected() {
        // SAFETY: SSE4.2 and PCLMULQDQ were detected.
        return unsafe { x86::header_and_three_streams(crc, header, payload) };
    }
    of_parts(crc, header, prefix, payload)
}

/// As [`of_record`], for records that are not as most are.
#[inline(never)]
fn of_parts(crc: u32, header: &[u64; 8], prefix: &[u8], payload: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::detected() {
        // SAFETY: SSE4.2 was detected.
        let crc = unsafe { x86::header(crc, header) };
        return append(append(crc, prefix), payload);
    }
    let mut bytes = [0; 64];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(header) {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    append(append(crc32c::crc32c_append(crc, &bytes[4..]), prefix), payload)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi32_si128,
        _mm_cvtsi128_si64, _mm_xor_si128,
    };

    /// Fewer bytes are done sooner by one chain.
    pub(super) const SHORTEST: usize = 144;
    /// More bytes are done sooner by the crate, which has longer streams.
    pub(super) const LONGEST: usize = 1536;

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

    /// Both at once, without a call between them.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn header_and_three_streams(crc: u32, words: &[u64; 8], payload: &[u8]) -> u32 {
        three_streams(header(crc, words), payload)
    }

    #[target_feature(enable = "sse4.2")]
    #[inline]
    pub(super) fn header(crc: u32, words: &[u64; 8]) -> u32 {
        let mut state = u64::from(_mm_crc32_u32(!crc, (words[0] >> 32) as u32));
        for word in &words[1..] {
            state = _mm_crc32_u64(state, *word);
        }
        !(state as u32)
    }

    /// `bytes` is at least [`SHORTEST`] and at most [`LONGEST`] long.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[inline]
    pub(super) fn three_streams(crc: u32, bytes: &[u8]) -> u32 {
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
        let mut state = _mm_crc32_u64(z, word(last) ^ _mm_cvtsi128_si64(joined) as u64);
        let (eights, tail) = tail.as_chunks::<8>();
        for eight in eights {
            state = _mm_crc32_u64(state, word(eight));
        }
        let mut state = state as u32;
        let (four, tail) = tail.as_chunks::<4>();
        if let [four] = four {
            state = _mm_crc32_u32(state, u32::from_le_bytes(*four));
        }
        for byte in tail {
            state = _mm_crc32_u8(state, *byte);
        }
        !state
    }

    /// The checksum times x to the power that `words` words of zeroes behind it would bring, not yet reduced.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn shift(crc: u64, words: usize) -> std::arch::x86_64::__m128i {
        let power = POWERS[words];
        _mm_clmulepi64_si128::<0>(_mm_cvtsi32_si128(crc as i32), _mm_cvtsi32_si128(power as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_agrees_with_the_crate() {
        let bytes: Vec<u8> = (0..2_000u32).map(|n| (n * n / 8) as u8).collect();
        for len in 0..1_700 {
            for start in [0, 1, 7] {
                let bytes = &bytes[start..start + len];
                assert_eq!(
                    append(len as u32, bytes),
                    crc32c::crc32c_append(len as u32, bytes),
                    "{len}"
                );
            }
        }
    }

    #[test]
    fn a_record_in_parts_is_a_record_of_bytes() {
        let words: [u64; 8] = std::array::from_fn(|n| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(n as u64 + 1));
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let rest: Vec<u8> = (0..2_000u32).map(|n| (n * n / 8) as u8).collect();
        for prefix in [0, 16, 33] {
            for len in [0, 1, 143, 144, 256, 1536, 1537, 1_900] {
                let (prefix, payload) = (&rest[..prefix], &rest[prefix..prefix + len]);
                assert_eq!(
                    of_record(17, &words, prefix, payload),
                    crc32c::crc32c_append(17, &[&header[4..], prefix, payload].concat()),
                    "{len}"
                );
            }
        }
    }
}

//! Blocks of 64 bytes, each multiplied without carries by the power of x that its distance from the end brings, and summed (after Gopal et
//! al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction, Intel 2009). No block waits for another, so what
//! a record of a few hundred bytes takes is little more than one multiplication's latency.

use std::arch::x86_64::{
    __m512i, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_xor_si128,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256, _mm512_castsi512_si256,
    _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_setzero_si512,
    _mm512_ternarylogic_epi64, _mm512_xor_si512, _mm512_zextsi128_si512,
};

use super::chain;

/// Blocks that are summed at a time.
const BLOCKS: usize = 24;
/// Fewer bytes are done sooner by one chain.
pub(super) const SHORTEST: usize = 64;

#[inline]
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("sse4.2")
}

/// The checksum of a record whose header is in registers, started from `crc`.
#[target_feature(enable = "sse4.2,avx512f,vpclmulqdq")]
pub(super) fn of_record(crc: u32, header: &[u64; 8], prefix: &[u8], payload: &[u8]) -> u32 {
    let state = chain::header(!crc, header);
    let state = if prefix.is_empty() {
        state
    } else {
        chain::bytes(state, prefix)
    };
    !bytes(state, payload)
}

/// The checksum of `all`, started from `crc`.
#[target_feature(enable = "sse4.2,avx512f,vpclmulqdq")]
pub(super) fn append(crc: u32, all: &[u8]) -> u32 {
    !bytes(!crc, all)
}

/// Takes in `bytes`: what is no whole block first, so that every block's distance from the end is a whole number of them.
#[target_feature(enable = "sse4.2,avx512f,vpclmulqdq")]
#[inline]
fn bytes(state: u32, bytes: &[u8]) -> u32 {
    let (odd, blocks) = bytes.as_rchunks::<64>();
    let state = if odd.is_empty() {
        state
    } else {
        chain::bytes(state, odd)
    };
    if blocks.len() <= BLOCKS {
        sum(state, blocks)
    } else {
        sums(state, blocks)
    }
}

/// Takes in any number of blocks. Apart from [`bytes`], for in a loop all powers are loaded before it begins, which takes longer
/// than a record.
#[target_feature(enable = "sse4.2,avx512f,vpclmulqdq")]
#[inline(never)]
fn sums(mut state: u32, blocks: &[[u8; 64]]) -> u32 {
    for blocks in blocks.chunks(BLOCKS) {
        state = sum(state, blocks);
    }
    state
}

/// Takes in at most [`BLOCKS`] blocks, at least one.
#[target_feature(enable = "sse4.2,avx512f,vpclmulqdq")]
#[inline]
fn sum(state: u32, blocks: &[[u8; 64]]) -> u32 {
    let Some((first, rest)) = blocks.split_first() else {
        return state;
    };
    let mut sum = _mm512_setzero_si512();
    for (block, powers) in rest.iter().rev().zip(&POWERS.0) {
        sum = add_product(sum, load(block), powers);
    }
    // The state last: the chain that makes it is the longest.
    let state = _mm512_zextsi128_si512(_mm_cvtsi32_si128(state as i32));
    let first = _mm512_xor_si512(load(first), state);
    let sum = add_product(sum, first, &POWERS.0[rest.len()]);
    let half = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
    let quarter = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    // What is left are 16 bytes whose checksum, started from nothing, is that of all.
    let state = _mm_crc32_u64(0, _mm_cvtsi128_si64(quarter) as u64);
    _mm_crc32_u64(state, _mm_extract_epi64::<1>(quarter) as u64) as u32
}

/// `sum` plus each word of `block` times its power.
#[target_feature(enable = "avx512f,vpclmulqdq")]
#[inline]
fn add_product(sum: __m512i, block: __m512i, powers: &[u8; 64]) -> __m512i {
    const EXCLUSIVE_OR: i32 = 0x96;
    let powers = load(powers);
    _mm512_ternarylogic_epi64::<EXCLUSIVE_OR>(
        sum,
        _mm512_clmulepi64_epi128::<0x00>(block, powers),
        _mm512_clmulepi64_epi128::<0x11>(block, powers),
    )
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(block: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are readable there, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// For each word of the block that is so many blocks from the end, x to the power of 64 n - 1 modulo the polynomial, bits reversed, in the word's
/// upper half: n is the number of words behind it. The product of two reversed words is short of one x, which the 1 makes up for.
static POWERS: Powers = powers();

/// In lines of the cache's, so that no load takes two.
#[repr(align(64))]
struct Powers([[u8; 64]; BLOCKS]);

const fn powers() -> Powers {
    let mut out = [[0; 64]; BLOCKS];
    let mut power: u32 = 0x05ec_76f1; // x^-1
    let mut words_behind = 0;
    while words_behind < BLOCKS * 8 {
        let upper_half = 60 - words_behind % 8 * 8;
        let mut n = 0;
        while n < 4 {
            out[words_behind / 8][upper_half + n] = power.to_le_bytes()[n];
            n += 1;
        }
        let mut n = 0;
        while n < 64 {
            power = (power >> 1) ^ if power & 1 == 1 { 0x82f6_3b78 } else { 0 };
            n += 1;
        }
        words_behind += 1;
    }
    Powers(out)
}

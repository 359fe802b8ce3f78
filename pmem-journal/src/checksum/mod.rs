//! CRC32C of records: as the crate `crc32c` has it, and faster where records are: a header of eight words in registers, and payloads of
//! a few hundred bytes, which one chain of `crc32` instructions would wait for.
//!
//! The CPU decides which way is taken: AVX-512 with VPCLMULQDQ ([`folded`]), SSE 4.2 with PCLMULQDQ ([`streams`]), or the crate, which
//! all others go through.
//!
//! The unsafe blocks here call functions that need CPU features; each is sound because the features were detected.

#[cfg(target_arch = "x86_64")]
mod chain;
#[cfg(target_arch = "x86_64")]
mod folded;
#[cfg(target_arch = "x86_64")]
mod streams;

/// The checksum of `bytes`, started from `crc`.
#[inline]
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        if bytes.len() >= folded::SHORTEST && folded::detected() {
            // SAFETY: what it needs was detected.
            return unsafe { folded::append(crc, bytes) };
        }
        if streams::fits(bytes.len()) && streams::detected() {
            // SAFETY: what it needs was detected.
            return unsafe { streams::append(crc, bytes) };
        }
    }
    crc32c::crc32c_append(crc, bytes)
}

/// The checksum of a record: of its header without the first four bytes (the words are little-endian), of key and extension, and
/// of the payload, started from `crc`.
#[inline]
pub(crate) fn of_record(crc: u32, header: &[u64; 8], prefix: &[u8], payload: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        if folded::detected() {
            // SAFETY: what it needs was detected.
            return unsafe { folded::of_record(crc, header, prefix, payload) };
        }
        let alike = prefix.is_empty() && streams::fits(payload.len());
        if alike && streams::detected() {
            // SAFETY: what it needs was detected.
            return unsafe { streams::of_record(crc, header, payload) };
        }
    }
    of_parts(crc, header, prefix, payload)
}

/// As [`of_record`], part by part.
#[inline(never)]
fn of_parts(crc: u32, header: &[u64; 8], prefix: &[u8], payload: &[u8]) -> u32 {
    let mut bytes = [0; 64];
    for (eight, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(header) {
        *eight = word.to_le_bytes();
    }
    append(append(crc32c::crc32c_append(crc, &bytes[4..]), prefix), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A way to checksum bytes, and one to checksum a record.
    struct Way {
        name: &'static str,
        append: fn(u32, &[u8]) -> u32,
        of_record: fn(u32, &[u64; 8], &[u8], &[u8]) -> u32,
    }

    /// Every way that this CPU has, whichever would be taken.
    fn ways() -> Vec<Way> {
        let mut ways = vec![
            Way {
                name: "taken",
                append,
                of_record,
            },
            Way {
                name: "parts",
                append,
                of_record: of_parts,
            },
        ];
        #[cfg(target_arch = "x86_64")]
        {
            if folded::detected() {
                ways.push(Way {
                    name: "folded",
                    append: |crc, bytes| {
                        // SAFETY: what it needs was detected.
                        unsafe { folded::append(crc, bytes) }
                    },
                    of_record: |crc, header, prefix, payload| {
                        // SAFETY: as above.
                        unsafe { folded::of_record(crc, header, prefix, payload) }
                    },
                });
            }
            if streams::detected() {
                ways.push(Way {
                    name: "streams",
                    append: |crc, bytes| {
                        if !streams::fits(bytes.len()) {
                            return append(crc, bytes);
                        }
                        // SAFETY: what it needs was detected.
                        unsafe { streams::append(crc, bytes) }
                    },
                    of_record: |crc, header, prefix, payload| {
                        if !prefix.is_empty() || !streams::fits(payload.len()) {
                            return of_parts(crc, header, prefix, payload);
                        }
                        // SAFETY: as above.
                        unsafe { streams::of_record(crc, header, payload) }
                    },
                });
            }
        }
        ways
    }

    #[test]
    fn every_length_and_alignment_agrees_with_the_crate() {
        let bytes: Vec<u8> = (0..6_000u32).map(|n| (n * n / 8) as u8).collect();
        for way in ways() {
            for len in (0..1_700).chain(3_060..3_080).chain([5_000]) {
                for start in [0, 1, 7] {
                    let bytes = &bytes[start..start + len];
                    assert_eq!(
                        (way.append)(len as u32, bytes),
                        crc32c::crc32c_append(len as u32, bytes),
                        "{} of {len}",
                        way.name
                    );
                }
            }
        }
    }

    fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), len)
    }

    proptest! {
        #[test]
        fn bytes_at_random_agree_with_the_crate(crc: u32, bytes in bytes(0..4_000)) {
            for way in ways() {
                prop_assert_eq!((way.append)(crc, &bytes), crc32c::crc32c_append(crc, &bytes), "{}", way.name);
            }
        }

        #[test]
        fn a_record_in_parts_is_a_record_of_bytes(
            crc: u32,
            words: [u64; 8],
            prefix in prop_oneof![Just(0usize), 0usize..100],
            payload in prop_oneof![bytes(256..257), bytes(0..2_000)],
        ) {
            let prefix = &[0x5a; 100][..prefix];
            let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let whole = [&header[4..], prefix, &payload].concat();
            for way in ways() {
                prop_assert_eq!(
                    (way.of_record)(crc, &words, prefix, &payload),
                    crc32c::crc32c_append(crc, &whole),
                    "{}", way.name
                );
            }
        }
    }
}

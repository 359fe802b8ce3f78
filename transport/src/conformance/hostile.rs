//! Hostile bytes: a decoder is given what no correct peer sends, made from what one does. It may refuse, in words; it must
//! not panic.
//!
//! Inputs are a *corpus* (a folder of files, which is kept) and what a few random changes make of its entries. An input
//! that makes the decoder panic is written into the corpus, so that every later run begins with it.
//!
//! `HOSTILE_CASES` says how many inputs a decoder gets (4,000 if it does not), `HOSTILE_SEED` which.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// The longest input, in bytes.
const LONGEST: usize = 8 << 10;

/// A small generator of random numbers (xorshift64*): the same inputs for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Gives `decode` every entry of the corpus in `folder`, then changed ones.
///
/// # Panics
/// When the corpus can't be read or is empty, and as `decode` does.
pub fn hostile_bytes(folder: &str, mut decode: impl FnMut(&[u8])) {
    let number = |variable: &str, default| {
        std::env::var(variable).map_or(default, |text| {
            text.parse()
                .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
        })
    };
    let (cases, seed) = (number("HOSTILE_CASES", 4_000), number("HOSTILE_SEED", 1));
    let corpus = read(Path::new(folder));
    let mut random = Random(seed.max(1));
    for entry in &corpus {
        check(folder, entry, &mut decode);
    }
    for _ in 0..cases {
        check(folder, &changed(&corpus, &mut random), &mut decode);
    }
}

fn read(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}: an empty corpus", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

fn check(folder: &str, input: &[u8], decode: &mut impl FnMut(&[u8])) {
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(input)));
    if let Err(panic) = decoded {
        let hash = input.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let path = Path::new(folder).join(format!("panic-{hash:016x}"));
        let kept = std::fs::write(&path, input);
        eprintln!(
            "{}: {} bytes that make the decoder panic ({kept:?})",
            path.display(),
            input.len()
        );
        resume_unwind(panic);
    }
}

/// Numbers that lie where limits do.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// An entry of the corpus after one to four changes.
fn changed(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let more = random.below(32);
                bytes.extend((0..more).map(|_| random.next() as u8));
            }
            2 => {
                let other = &corpus[random.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend(&other[random.below(other.len() + 1)..]);
            }
            3 => {
                let width = 1 << random.below(4);
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                for (byte, value) in bytes.iter_mut().skip(at).zip(&edge[..width]) {
                    *byte = *value;
                }
            }
            4 => {
                let repeated = bytes[at..].to_vec();
                bytes.extend(repeated);
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            6 => bytes = (0..random.below(64)).map(|_| random.next() as u8).collect(),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

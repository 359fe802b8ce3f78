//! What is done to the files of a good journal.

use super::Files;

/// Marsaglia's xorshift.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // Spread, so that neighbouring seeds begin far apart.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to `n - 1`; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 16) % n.max(1) as u64) as usize
    }
}

/// Numbers that lie where limits do.
const EDGES: [u64; 14] = [
    0,
    1,
    63,
    64,
    65,
    4095,
    4096,
    0xffff,
    0x1_0000,
    (16 << 20) + 1,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// Where something stands: any byte, or more often a field near the start of a header, a record or the footer.
fn place(bytes: &[u8], random: &mut Random) -> usize {
    let field = random.below(32) * 4;
    match random.below(5) {
        0 => random.below(bytes.len()),
        1 => field,
        2 => 4096 + field,
        3 => 4096 + random.below(bytes.len().saturating_sub(4096)) / 16 * 16 + field % 64,
        _ => bytes.len().saturating_sub(64) + field % 64,
    }
    .min(bytes.len().saturating_sub(1))
}

/// One to four changes.
pub(crate) fn change(files: &mut Files, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let names: Vec<_> = files.keys().cloned().collect();
        let Some(name) = names.get(random.below(names.len())) else {
            return;
        };
        let other = files[&names[random.below(names.len())]].clone();
        let bytes = files.get_mut(name).expect("it is one of them");
        if bytes.is_empty() {
            continue;
        }
        let at = place(bytes, random);
        let most = bytes.len() - at;
        match random.below(12) {
            0 => bytes[at] ^= 1 << random.below(8),
            1..=4 => {
                let edge = EDGES[random.below(EDGES.len())].wrapping_add(random.below(3) as u64);
                let len = [2, 4, 8][random.below(3)].min(most);
                bytes[at..at + len].copy_from_slice(&edge.to_le_bytes()[..len]);
            }
            5 => {
                let len = random.below(most.min(200) + 1);
                bytes[at..at + len].fill_with(|| random.next() as u8);
            }
            // What stands elsewhere in this file, or in another one, looks more like records than noise does.
            6 => {
                let from = random.below(bytes.len()) & !15;
                let len = random.below(most.min(bytes.len() - from) + 1);
                bytes.copy_within(from..from + len, at & !15);
            }
            7 => {
                let from = random.below(other.len()) & !15;
                let len = random.below(most.min(other.len() - from) + 1);
                bytes[at..at + len].copy_from_slice(&other[from..from + len]);
            }
            8 => bytes[at..].fill(0),
            9 => bytes.truncate(at),
            10 => bytes.resize(bytes.len() + random.below(5000), 0),
            _ => {
                files.remove(name);
            }
        }
    }
}

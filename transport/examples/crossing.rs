//! What a message pays for crossing from one core to another, beside what a ring makes of it: the floor under
//! `bench latency --transport shm`.
//!
//! Two threads on two cores exchange frames through memory that both see, with nothing around it: ten words are written, the first
//! last; the other thread sees the first change, reads the others and answers. The frames stand either always in the same place,
//! or one behind the other in so many bytes of memory, over and over. What that takes more is what the caches do: a line that
//! has left a core's nearest cache since it was used last takes another crossing, and a frame of 80 bytes has two lines.
//!
//! ```sh
//! cargo run --release -p transport --example crossing
//! ```

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Words of a frame: a header of 12 bytes and 64 of payload, rounded up.
const WORDS: usize = 10;
/// Round trips that are timed together: as many as make reading the clock cheap.
const TOGETHER: u32 = 8;
const TIMED: usize = 5_000;
const ROUNDS: usize = 5;

/// Frames in one direction, at a stride.
struct Frames {
    words: Vec<AtomicU64>,
    stride: usize,
    count: usize,
}

impl Frames {
    /// As many frames as fit so many bytes, one at least, at a stride of so many bytes.
    fn new(bytes: usize, stride: usize) -> Frames {
        let count = (bytes / stride).max(1);
        Frames {
            words: (0..(count * stride).max(128) / 8)
                .map(|_| AtomicU64::new(0))
                .collect(),
            stride: stride / 8,
            count,
        }
    }

    fn frame(&self, number: u64) -> &[AtomicU64] {
        let first = number as usize % self.count * self.stride;
        &self.words[first..first + WORDS]
    }

    fn put(&self, number: u64) {
        let [first, others @ ..] = self.frame(number) else {
            return;
        };
        for word in others {
            word.store(number, Ordering::Relaxed);
        }
        first.store(number, Ordering::Release);
    }

    fn take(&self, number: u64) {
        let [first, others @ ..] = self.frame(number) else {
            return;
        };
        while first.load(Ordering::Acquire) != number {
            spin_loop();
        }
        for word in others {
            black_box(word.load(Ordering::Relaxed));
        }
    }
}

fn main() -> std::io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let (Some(near), Some(far)) = (cores.next(), cores.next_back()) else {
        println!("needs two cores");
        return Ok(());
    };
    let cases = [
        ("one place", 0, 128),
        ("4 KiB", 4 << 10, WORDS * 8),
        ("8 KiB", 8 << 10, WORDS * 8),
        ("16 KiB", 16 << 10, WORDS * 8),
        ("64 KiB", 64 << 10, WORDS * 8),
        ("1 MiB", 1 << 20, WORDS * 8),
        ("1 MiB, each frame on lines of its own", 1 << 20, 128),
    ];
    let mut found = vec![Vec::new(); cases.len()];
    // The cases take turns: neighbours move them all.
    for _ in 0..ROUNDS {
        for ((_, bytes, stride), found) in cases.iter().zip(&mut found) {
            found.push(one_way(*bytes, *stride, near, far)?);
        }
    }
    println!("frames of 80 bytes, one way, p50; median of {ROUNDS} rounds");
    for ((name, ..), mut found) in cases.iter().zip(found) {
        found.sort_unstable();
        println!("{:>6} ns  {name}", found[ROUNDS / 2].as_nanos());
    }
    Ok(())
}

/// The median of one way.
fn one_way(bytes: usize, stride: usize, near: usize, far: usize) -> std::io::Result<Duration> {
    let [there, back] = [(); 2].map(|()| Frames::new(bytes, stride));
    let trips = TIMED as u64 * u64::from(TOGETHER);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Where it fails, the figures show it: both threads share a core.
            let _ = pin(far);
            for number in 1..=trips {
                there.take(number);
                back.put(number);
            }
        });
        pin(near)?;
        let mut times = Vec::with_capacity(TIMED);
        let mut number = 0;
        for _ in 0..TIMED {
            let began = Instant::now();
            for _ in 0..TOGETHER {
                number += 1;
                there.put(number);
                back.take(number);
            }
            times.push(began.elapsed() / (2 * TOGETHER));
        }
        times.sort_unstable();
        Ok(times[TIMED / 2])
    })
}

/// Keeps the calling thread on one core.
fn pin(core: usize) -> std::io::Result<()> {
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}

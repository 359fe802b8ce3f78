//! What the journal costs beside a bare loop over the same bytes, interleaved in one run.
//!
//! `cargo bench -p pmem-journal --bench ratios [-- append groups flight threads replay open]`. `JOURNAL_BENCH_DIR` names the
//! directory for the ordinary file (default: the target directory's temporary one); the mapping is on /dev/shm.
#![allow(unsafe_code, reason = "the bare loop is the instructions themselves")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmem_journal::{Event, Expected, Journal, Mode, Options, Reader};

mod in_flight;
mod unavoidable_work;

const PAYLOAD: usize = 256;
const RECORD: usize = 320;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let want = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let disk = std::env::var("JOURNAL_BENCH_DIR")
        .map_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    #[cfg(target_arch = "x86_64")]
    if want("append") {
        mapped::append();
    }
    if want("groups") {
        groups(&disk, 256, 200);
        groups(&disk, 1024, 100);
    }
    if want("flight") {
        in_flight::groups(&disk, 1024, 20);
    }
    if want("threads") {
        threads(&disk);
    }
    if want("replay") {
        replay(&disk);
    }
    if want("open") {
        opening(&disk);
    }
}

/// Opening after a crash: a log of `JOURNAL_BENCH_OPEN_MIB` (default 1024) beside one of 100 MiB, both with half a segment
/// behind their last seal, interleaved.
fn opening(dir: &Path) {
    let large = std::env::var("JOURNAL_BENCH_OPEN_MIB").map_or(1024, |mib| mib.parse().unwrap());
    let logs = [100, large].map(|mib: u64| {
        let home = tempfile::tempdir_in(dir).unwrap();
        let (journal, _) = Journal::open_with(home.path(), &Options::new().require(Mode::Buffered)).unwrap();
        let payload = [7; PAYLOAD];
        // Whole segments, and then half of one.
        let events = ((mib << 20) / (64 << 20) * (64 << 20) + (32 << 20)) / RECORD as u64;
        for first in (0..events).step_by(1000) {
            let of_entities: Vec<_> = (first..first + 1000)
                .map(|n| Event::new(u128::from(n % 100_000), 1, &payload))
                .collect();
            journal.append(&of_entities, Expected::Any).unwrap();
        }
        // What a kill leaves: no close record. The lock goes with the copy of the last segment.
        let last = std::fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let last = last
            .filter(|path| path.extension().is_some_and(|e| e == "seg"))
            .max()
            .unwrap();
        let as_killed = std::fs::read(&last).unwrap();
        drop(journal);
        (home, last, as_killed, mib)
    });
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..9 {
        for ((home, last, as_killed, _), times) in logs.iter().zip(&mut times) {
            std::fs::write(last, as_killed).unwrap();
            rustix::fs::sync();
            let start = Instant::now();
            let (journal, recovery) =
                Journal::open_with(home.path(), &Options::new().require(Mode::Buffered)).unwrap();
            times.push(start.elapsed().as_secs_f64() * 1e3);
            assert!(!recovery.clean);
            drop(journal);
        }
    }
    let (small, large) = (p50(&mut times[0]), p50(&mut times[1]));
    println!(
        "open after a crash: log of {} MiB {large:.1} ms, of {} MiB {small:.1} ms, ratio {:.2}",
        logs[1].3,
        logs[0].3,
        large / small
    );
}

fn p50(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn group(payload: &[u8; PAYLOAD], n: usize) -> Vec<Event<'_>> {
    vec![Event::new(7, 1, payload); n]
}

/// A file like a segment: reserved, zeroed and synced.
fn zeroed(dir: &Path, len: u64) -> File {
    let file = tempfile::tempfile_in(dir).unwrap();
    let zeroes = vec![0; 1 << 20];
    for at in (0..len).step_by(1 << 20) {
        file.write_all_at(&zeroes, at).unwrap();
    }
    file.sync_all().unwrap();
    file
}

/// A journal whose first segment has room for `total` bytes of records. The spare segment is being filled with zeroes behind
/// our back: that has passed when this returns.
fn buffered(dir: &Path, total: u64) -> Journal {
    let options = Options::new()
        .require(Mode::Buffered)
        .segment_size((total + (4 << 20)).next_multiple_of(2 << 20));
    let (journal, _) = Journal::open_with(dir, &options).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    rustix::fs::sync();
    journal
}

/// Groups of `size`: the journal, a bare loop over bytes that are ready, and one that has to make them of the same events first.
fn groups(dir: &Path, size: usize, rounds: usize) {
    let bytes = size * RECORD;
    let total = (rounds * bytes) as u64;
    let home = tempfile::tempdir_in(dir).unwrap();
    let bare = zeroed(home.path(), total);
    let working = zeroed(home.path(), total);
    let journal = buffered(home.path(), total);
    let payload = [7; PAYLOAD];
    let events = group(&payload, size);
    let block = vec![7; bytes];
    let mut made = Vec::with_capacity(bytes);
    let write = |file: &File, block: &[u8], round: usize| {
        file.write_all_at(block, (round * bytes) as u64).unwrap();
        file.sync_data().unwrap();
    };
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..rounds {
        // Each in turn is the first.
        for nth in 0..times.len() {
            let which = (round + nth) % times.len();
            let start = Instant::now();
            match which {
                0 => {
                    journal.append(&events, Expected::Any).unwrap();
                }
                1 => write(&bare, &block, round),
                _ => {
                    made.clear();
                    unavoidable_work::make_records(&mut made, &events, (round * size) as u64);
                    write(&working, &made, round);
                }
            }
            times[which].push(start.elapsed().as_secs_f64());
        }
    }
    let [a, b, c] = times
        .each_ref()
        .map(|times| (size * times.len()) as f64 / times.iter().sum::<f64>());
    println!(
        "buffered, groups of {size}: {a:.0} events/s, bare pwrite + fdatasync {b:.0}, ratio {:.2}; bare with the work {c:.0}, ratio {:.2}",
        a / b,
        a / c
    );
    let [a, b, c] = times.each_mut().map(|times| p50(times) * 1e6);
    println!(
        "   p50 {a:.0} us, bare {b:.0} us, ratio {:.2}; bare with the work {c:.0} us, ratio {:.2}",
        b / a,
        c / a
    );
}

fn threads(dir: &Path) {
    let home = tempfile::tempdir_in(dir).unwrap();
    let (journal, _) = Journal::open_with(home.path(), &Options::new().require(Mode::Buffered)).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let run = |threads: usize| -> f64 {
        let deadline = Duration::from_millis(700);
        let start = Instant::now();
        let done: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let journal = &journal;
                    scope.spawn(move || {
                        let payload = [7; PAYLOAD];
                        let event = [Event::new(thread as u128, 1, &payload)];
                        let mut done = 0;
                        while start.elapsed() < deadline {
                            journal.append(&event, Expected::Any).unwrap();
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        done as f64 / start.elapsed().as_secs_f64()
    };
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let (one, eight) = (run(1), run(8));
        println!(
            "buffered, 1 event a commit: 1 thread {one:.0}/s, 8 threads {eight:.0}/s, ratio {:.2}",
            eight / one
        );
        ratios.push(eight / one);
    }
    println!("   median ratio {:.2}", p50(&mut ratios));
}

fn replay(dir: &Path) {
    let home = tempfile::tempdir_in(dir).unwrap();
    let (journal, _) = Journal::open_with(home.path(), &Options::new().require(Mode::Buffered)).unwrap();
    let payload = [7; PAYLOAD];
    let events = group(&payload, 1000);
    for _ in 0..1000 {
        journal.append(&events, Expected::Any).unwrap();
    }
    drop(journal);
    let (mut ours, mut open, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        let mut replay = Reader::open(home.path()).unwrap().replay(0).unwrap();
        let (mut count, mut sum) = (0u64, 0u64);
        while let Some(event) = replay.next_event().unwrap() {
            count += 1;
            sum += u64::from(event.payload[0]);
        }
        assert_eq!((count, sum), (1_000_000, 7_000_000));
        ours.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut buf = vec![0; 256 << 10];
        let mut crc = 0;
        for entry in std::fs::read_dir(home.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "seg") {
                let file = File::open(path).unwrap();
                let mut at = 0;
                loop {
                    let n = file.read_at(&mut buf, at).unwrap();
                    if n == 0 {
                        break;
                    }
                    crc = crc32c::crc32c_append(crc, &buf[..n]);
                    at += n as u64;
                }
            }
        }
        std::hint::black_box(crc);
        floor.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let (journal, recovery) =
            Journal::open_with(home.path(), &Options::new().require(Mode::Buffered)).unwrap();
        open.push(start.elapsed().as_secs_f64());
        assert_eq!(recovery.events, 1_000_000);
        drop(journal);
    }
    let (a, b, c) = (p50(&mut ours), p50(&mut floor), p50(&mut open));
    println!(
        "replay of 1,000,000 events of 256 B: {a:.3} s, bare read + CRC32C {b:.3} s, ratio {:.2}",
        b / a
    );
    println!("   opening for writing: {c:.3} s");
}

#[cfg(target_arch = "x86_64")]
mod mapped {
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    use rustix::mm::{MapFlags, ProtFlags, mmap};

    use super::*;

    /// As large as the segment, so that both sides walk through as much memory.
    const SIZE: usize = 1 << 30;
    const BURST: usize = 16;

    struct Bare {
        base: *mut u8,
        at: usize,
        record: Vec<u8>,
    }

    impl Bare {
        fn new(dir: &Path) -> Bare {
            let file = zeroed(dir, SIZE as u64);
            let flags = MapFlags::SHARED | MapFlags::POPULATE;
            // SAFETY: a fresh mapping; it stays until the process ends.
            let base = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    SIZE,
                    ProtFlags::READ | ProtFlags::WRITE,
                    flags,
                    &file,
                    0,
                )
                .unwrap()
            };
            Bare {
                base: base.cast(),
                at: 0,
                record: vec![7; RECORD],
            }
        }

        /// Gives the next place; every record differs, so no checksum can be hoisted.
        fn next(&mut self) -> *mut u8 {
            if self.at + RECORD > SIZE {
                self.at = 0;
            }
            self.record[16..24].copy_from_slice(&(self.at as u64).to_le_bytes());
            let crc = crc32c::crc32c(&self.record[4..]);
            self.record[..4].copy_from_slice(&crc.to_le_bytes());
            // SAFETY: `at + RECORD <= SIZE`.
            let to = unsafe { self.base.add(self.at) };
            self.at += RECORD;
            to
        }

        fn streaming(&mut self) {
            let to = self.next();
            for at in (0..RECORD).step_by(16) {
                // SAFETY: inside the record and inside the mapping, 16-byte aligned.
                unsafe {
                    _mm_stream_si128(
                        to.add(at).cast::<__m128i>(),
                        _mm_loadu_si128(self.record.as_ptr().add(at).cast()),
                    );
                }
            }
            // SAFETY: a fence touches no memory.
            unsafe { _mm_sfence() };
        }

        fn clwb(&mut self) {
            let to = self.next();
            // SAFETY: inside the record and inside the mapping; clwb was checked for, and needs any mapped address.
            unsafe {
                std::ptr::copy_nonoverlapping(self.record.as_ptr(), to, RECORD);
                let mut line = to.addr() & !63;
                while line < to.addr() + RECORD {
                    asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags));
                    line += 64;
                }
                _mm_sfence();
            }
        }
    }

    fn has_clwb() -> bool {
        std::arch::x86_64::__cpuid_count(7, 0).ebx & (1 << 24) != 0
    }

    pub(crate) fn append() {
        let home = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = Options::new().require(Mode::Volatile).segment_size(1 << 30);
        let (mut journal, _) = Journal::open_with(home.path(), &options).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let (mut nt, mut clwb) = (Bare::new(home.path()), Bare::new(home.path()));
        let payload = [7; PAYLOAD];
        let event = [Event::new(7, 1, &payload)];
        let time = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            for _ in 0..BURST {
                work();
            }
            start.elapsed().as_secs_f64() * 1e9 / BURST as f64
        };
        let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..10_000 {
            times[0].push(time(&mut || {
                assert!(!journal.append_mut(&event, Expected::Any).unwrap().duplicate)
            }));
            times[3].push(time(&mut || {
                assert!(!journal.append(&event, Expected::Any).unwrap().duplicate)
            }));
            times[1].push(time(&mut || nt.streaming()));
            if has_clwb() {
                times[2].push(time(&mut || clwb.clwb()));
            }
        }
        let [ours, nt, clwb, shared] = &mut times;
        let (a, n) = (p50(ours), p50(nt));
        let c = if clwb.is_empty() { f64::INFINITY } else { p50(clwb) };
        println!(
            "volatile (the pmem code on /dev/shm), 256 B a commit: p50 {a:.0} ns, bare CRC + ntstore + sfence {n:.0} ns, \
             bare CRC + clwb + sfence {c:.0} ns, ratio to the better {:.2}",
            a / n.min(c)
        );
        let shared = p50(shared);
        println!(
            "   shared between threads (append by &self): p50 {shared:.0} ns, ratio {:.2}",
            shared / n.min(c)
        );
    }
}

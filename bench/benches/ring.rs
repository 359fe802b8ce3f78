//! Rings: a frame claimed, written and committed, then read and consumed, with nothing in between.

mod brief;

use std::hint::black_box;
use std::sync::atomic::Ordering;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use transport::frame::{HEADER, Integrity, Kind};
use transport::memory::RingMemory;
use transport::ring::{Arrival, ReceiveRing, SendRing};

const RING: usize = 1 << 20;
const CELL: usize = 4096;
const SIZES: [usize; 3] = [8, 64, 1024];

fn memory(len: usize) -> RingMemory {
    RingMemory::anonymous(len).expect("memory for a ring")
}

/// Both ends of a ring that both map, as over shm.
struct Shared {
    send: SendRing,
    receive: ReceiveRing,
    cell: RingMemory,
}

impl Shared {
    fn new() -> Shared {
        let (ring, cell) = (memory(RING), memory(CELL));
        Shared {
            send: SendRing::shared(ring.clone(), cell.clone()),
            receive: ReceiveRing::new(ring, Integrity::None, Arrival::Published),
            cell,
        }
    }

    /// With every page taken from the system already.
    fn touched() -> Shared {
        let mut shared = Shared::new();
        shared.receive.forget_unconsumed();
        shared
    }

    fn put(&self, message: &[u8]) {
        let mut claim = self.send.claim(message.len()).expect("there is room");
        claim.body().copy_from_slice(message);
        claim.commit(Kind::Message, 0, 0, 7);
    }

    /// Whether there was a message.
    fn take(&mut self) -> bool {
        loop {
            let Some(frame) = self.receive.peek().expect("whole frames") else {
                return false;
            };
            black_box(frame.body.first());
            let (size, kind) = (frame.header.size(), frame.header.kind);
            self.receive.consume(size);
            self.cell
                .word(0)
                .store(self.receive.consumed(), Ordering::Release);
            if kind != Kind::Padding {
                return true;
            }
        }
    }
}

fn one_at_a_time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/claim commit poll release");
    for size in SIZES {
        let (mut shared, message) = (Shared::new(), vec![0x5a; size]);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                shared.put(&message);
                assert!(shared.take());
            });
        });
    }
    group.finish();
}

/// The sender's half and the receiver's for themselves, a quarter of a ring at a time.
fn halves(criterion: &mut Criterion) {
    const SIZE: usize = 64;
    let (frames, message) = (RING / 4 / (SIZE + HEADER), [0x5a; SIZE]);
    let mut group = criterion.benchmark_group("ring/64 B");
    group.throughput(Throughput::Elements(frames as u64));
    group.bench_function("claim and commit", |bencher| {
        bencher.iter_batched(
            Shared::touched,
            |shared| {
                (0..frames).for_each(|_| shared.put(&message));
                shared
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("poll and release", |bencher| {
        bencher.iter_batched(
            || {
                let shared = Shared::new();
                (0..frames).for_each(|_| shared.put(&message));
                shared
            },
            |mut shared| {
                while shared.take() {}
                shared
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("poll in vain", |bencher| {
        let mut shared = Shared::new();
        bencher.iter(|| (0..frames).filter(|_| shared.take()).count());
    });
    group.finish();
}

fn main() {
    let mut criterion = brief::criterion();
    one_at_a_time(&mut criterion);
    halves(&mut criterion);
    criterion.final_summary();
}

//! Frames: what a header and a checksum cost.

mod brief;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use transport::frame::{Header, Integrity, Kind};

const HEADER: Header = Header {
    length: 64,
    kind: Kind::Message,
    flags: 0,
    extension: 0,
    mailbox: 7,
    checksum: 0,
};

fn header(criterion: &mut Criterion) {
    criterion.bench_function("frame/encode header", |bencher| {
        bencher.iter(|| {
            let header = black_box(HEADER);
            (header.first_word(), header.second_word())
        });
    });
    let (first, second) = (HEADER.first_word(), HEADER.second_word());
    criterion.bench_function("frame/decode header", |bencher| {
        bencher.iter(|| Header::decode(black_box(first), black_box(second), 0, 1 << 20));
    });
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/checksum");
    let integrity = Integrity::Crc32c { salt: 0x5eed };
    for size in [64usize, 256, 4096] {
        let body = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &body, |bencher, body| {
            bencher.iter(|| integrity.checksum(black_box(4096), HEADER.first_word(), 7, black_box(body)));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = brief::criterion();
    header(&mut criterion);
    checksum(&mut criterion);
    criterion.final_summary();
}

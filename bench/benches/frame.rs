//! Frames: what a header and a checksum cost.

mod brief;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use transport::checksum::Checksum;
use transport::frame::{Header, Kind};

const HEADER: Header = Header {
    length: 64,
    kind: Kind::Message,
    flags: 0,
    extension: 0,
    mailbox: 7,
};

fn header(criterion: &mut Criterion) {
    criterion.bench_function("frame/encode header", |bencher| {
        bencher.iter(|| {
            let header = black_box(HEADER);
            header.first_word()
        });
    });
    let first = HEADER.first_word();
    criterion.bench_function("frame/decode header", |bencher| {
        bencher.iter(|| Header::decode(black_box(first), 0, 1 << 20));
    });
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/checksum");
    let checksum = Checksum::new(0x5eed);
    for size in [64usize, 256, 4096] {
        let body = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &body, |bencher, body| {
            bencher.iter(|| checksum.of(black_box(4096), HEADER.first_word(), black_box(body)));
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

//! A link without a link: committed bytes are copied from a send ring into the receive ring that mirrors it, and the
//! acknowledgement is handed back. What a link adds to this is its device.

mod brief;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use transport::frame::{Integrity, Kind};
use transport::memory::RingMemory;
use transport::ring::{Arrival, Position, ReceiveRing, SendRing};

const RING: usize = 1 << 20;

struct Loopback {
    send: SendRing,
    receive: ReceiveRing,
    pushed: Position,
}

impl Loopback {
    fn new(integrity: Integrity) -> Loopback {
        let memory = || RingMemory::anonymous(RING).expect("memory for a ring");
        Loopback {
            send: SendRing::new(memory(), integrity.clone()),
            receive: ReceiveRing::new(memory(), integrity, Arrival::Counted),
            pushed: 0,
        }
    }

    fn put(&self, message: &[u8]) {
        let mut claim = self.send.claim(message.len()).expect("there is room");
        claim.body().copy_from_slice(message);
        claim.commit(Kind::Message, 0, 0, 7);
    }

    fn push(&mut self) {
        let end = self.send.committed(self.pushed, RING as u64);
        for mut piece in self.send.span(self.pushed, end) {
            while !piece.is_empty() {
                let room = self.receive.writable();
                let len = room.len().min(piece.len());
                room[..len].copy_from_slice(&piece[..len]);
                self.receive.advance(len);
                piece = &piece[len..];
            }
        }
        self.pushed = end;
    }

    fn take_all(&mut self) -> usize {
        let mut taken = 0;
        while let Some(frame) = self.receive.peek().expect("whole frames") {
            black_box(frame.body.first());
            taken += usize::from(frame.header.kind == Kind::Message);
            let size = frame.header.size();
            self.receive.consume(size);
        }
        let consumed = self.receive.consumed();
        self.send.release(consumed).expect("only what was sent");
        taken
    }
}

fn loopback(criterion: &mut Criterion, name: &str, integrity: Integrity) {
    let mut group = criterion.benchmark_group(name);
    for (size, messages) in [(64usize, 1usize), (64, 64), (4096, 16)] {
        let (mut loopback, message) = (Loopback::new(integrity.clone()), vec![0x5a; size]);
        group.throughput(Throughput::Elements(messages as u64));
        let id = BenchmarkId::from_parameter(format!("{messages} of {size} B"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                (0..messages).for_each(|_| loopback.put(&message));
                loopback.push();
                assert_eq!(loopback.take_all(), messages);
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = brief::criterion();
    loopback(&mut criterion, "loopback", Integrity::None);
    loopback(
        &mut criterion,
        "loopback with checksums",
        Integrity::salted(0x5eed),
    );
    criterion.final_summary();
}

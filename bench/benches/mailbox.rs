//! Mailboxes of one node: a message delivered and taken, without any link.

mod brief;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use transport::{Drive, MailboxOptions, Node};

const MESSAGES: usize = 64;

fn node() -> Node {
    Node::builder("alone")
        .secret(b"nobody else is there to know it")
        .drive(Drive::Caller)
        .start()
        .expect("a node without transports")
}

fn deliver_and_take(criterion: &mut Criterion) {
    let node = node();
    let mut group = criterion.benchmark_group("mailbox");
    for size in [8usize, 64, 1024] {
        let name = format!("mailbox of {size} B");
        let mut mailbox = node
            .mailbox(&name, MailboxOptions::default())
            .expect("a new name");
        let address = node.address(&name).expect("just made");
        let message = vec![0x5a; size];
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("deliver and take one", size), |bencher| {
            bencher.iter(|| {
                address.try_send(&message).expect("there is room");
                black_box(mailbox.try_recv().expect("open").expect("just sent").payload[0])
            });
        });
        group.throughput(Throughput::Elements(MESSAGES as u64));
        group.bench_function(BenchmarkId::new("deliver and poll 64", size), |bencher| {
            bencher.iter(|| {
                for _ in 0..MESSAGES {
                    address.try_send(&message).expect("there is room");
                }
                let taken = mailbox.poll(|message| {
                    black_box(message.payload[0]);
                });
                assert_eq!(taken, Ok(MESSAGES));
            });
        });
    }
    let mut mailbox = node
        .mailbox("empty", MailboxOptions::default())
        .expect("a new name");
    group.throughput(Throughput::Elements(1));
    group.bench_function("poll in vain, without peers", |bencher| {
        bencher.iter(|| mailbox.poll(|_| {}));
    });
    group.finish();
}

fn main() {
    let mut criterion = brief::criterion();
    deliver_and_take(&mut criterion);
    criterion.final_summary();
}

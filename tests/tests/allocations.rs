//! A message costs no allocation, on no transport, once both ends are warm: neither to send, one at a time, in a batch or many
//! at once, nor to receive, polled or taken from the queue; nor does one that is sent in a buffer, nor one that comes in several
//! chunks. Counted is what this process allocates, with an allocator that counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use tests::audit::SetWhenDropped;
use transport::link::Transport;
use transport::{Address, Drive, Mailbox, MailboxOptions, Node, NodeBuilder, Wait};
use transport_rdma::Shm;
use transport_tcp::Tcp;

const MESSAGE: [u8; 64] = [0x5a; 64];
/// Messages of a turn, and turns: some laps of the ring and some thousand of credits and acknowledgements.
const TURN: usize = 400;
const TURNS: usize = 50;
const WARM: usize = 5;
/// Buffers of a turn, and their bytes: messages of one chunk, and of several.
const BUFFERS: usize = 2;
const BUFFER: [usize; 2] = [64 << 10, 160 << 10];
/// A list may grow once more after the warm-up, as when the machine held a thread up; a message has no share in that.
const GROWTH: u64 = 8;
/// Nothing that depends on the time.
const LONG: Duration = Duration::from_secs(3600);
/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn builder<T: Transport + 'static>(name: &str, transport: T) -> NodeBuilder {
    Node::builder(name)
        .secret(b"the secret of two silent nodes")
        .drive(Drive::Caller)
        .wait(Wait::Spin)
        .timing(transport::Timing {
            heartbeat: LONG,
            silence: 4 * LONG,
            ..transport::Timing::default()
        })
        .transport(transport)
}

/// Two nodes that this thread alone drives once they know each other.
struct Ends {
    address: Address,
    mailbox: Mailbox,
    large_address: Address,
    large_mailbox: Mailbox,
    near: Node,
    _far: Node,
}

impl Ends {
    fn new<T: Transport + 'static>(near: T, far: T, listen: &str) -> Ends {
        let far = builder("far", far).listen(listen).start().unwrap();
        let mailbox = far.mailbox("far", MailboxOptions::default()).unwrap();
        let options = MailboxOptions {
            max_message: BUFFER.into_iter().max().unwrap_or_default() as u32,
            ..MailboxOptions::default()
        };
        let large_mailbox = far.mailbox("large", options).unwrap();
        let near = builder("near", near).start().unwrap();
        let connected = AtomicBool::new(false);
        let (address, large_address) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !connected.load(Ordering::Relaxed) {
                    far.poll();
                }
            });
            let _connected = SetWhenDropped(&connected);
            let peer = near.connect(&far.addresses()[0]).unwrap();
            (peer.address("far").unwrap(), peer.address("large").unwrap())
        });
        Ends {
            address,
            mailbox,
            large_address,
            large_mailbox,
            near,
            _far: far,
        }
    }

    fn take_one_by_one(&mut self) {
        for _ in 0..TURN {
            take(&self.near, &mut self.mailbox, |payload| {
                assert_eq!(payload, MESSAGE);
            });
        }
    }

    /// One turn in every way of sending and of receiving.
    fn turn(&mut self) {
        let start = Instant::now();
        for _ in 0..TURN {
            self.address.try_send(&MESSAGE).unwrap();
        }
        let mut taken = 0;
        while taken < TURN {
            taken += self
                .mailbox
                .poll(|message| assert_eq!(message.payload, MESSAGE))
                .unwrap();
            self.near.poll();
            assert!(start.elapsed() < PATIENCE, "{taken} of {TURN} in time");
        }
        let mut batch = self.address.batch();
        for _ in 0..TURN {
            batch.try_send(&MESSAGE).unwrap();
        }
        drop(batch);
        self.take_one_by_one();
        let mut batch = self.address.batch();
        let many = [&MESSAGE[..]; TURN];
        let mut sent = 0;
        while sent < TURN {
            sent += batch.try_send_all(&many[sent..]).unwrap();
        }
        drop(batch);
        self.take_one_by_one();
        for len in BUFFER {
            self.send_buffers(len);
            let mut taken = 0;
            while taken < BUFFERS {
                taken += self
                    .large_mailbox
                    .poll(|message| assert_filled(message.payload, len))
                    .unwrap();
                self.near.poll();
                assert!(start.elapsed() < PATIENCE, "{taken} of {BUFFERS} in time");
            }
            self.send_buffers(len);
            for _ in 0..BUFFERS {
                take(&self.near, &mut self.large_mailbox, |payload| {
                    assert_filled(payload, len);
                });
            }
        }
    }

    fn send_buffers(&self, len: usize) {
        for _ in 0..BUFFERS {
            let mut buffer = self.near.buffer(len).unwrap();
            buffer.fill(MESSAGE[0]);
            self.large_address.try_send_buffer(buffer).unwrap();
        }
    }
}

/// Takes the next message from the queue, and drives the near node until it is there: not all of it may have left yet.
fn take(near: &Node, mailbox: &mut Mailbox, check: impl Fn(&[u8])) {
    let start = Instant::now();
    loop {
        if let Some(message) = mailbox.recv_timeout(Duration::from_millis(1)).unwrap() {
            check(message.payload);
            break;
        }
        near.poll();
        assert!(start.elapsed() < PATIENCE, "nothing comes");
    }
    // Hears of the acknowledgement.
    near.poll();
}

fn assert_filled(payload: &[u8], len: usize) {
    assert_eq!((payload.len(), payload.last()), (len, Some(&MESSAGE[0])));
}

fn assert_no_allocation<T: Transport + 'static>(near: T, far: T, listen: &str) {
    let mut ends = Ends::new(near, far, listen);
    for _ in 0..WARM {
        ends.turn();
    }
    let counted = measure(|| {
        for _ in 0..TURNS {
            ends.turn();
        }
    });
    let messages = 2 * TURN * TURNS;
    assert!(
        counted.count_total <= GROWTH,
        "allocations for {messages} messages: {counted:?}"
    );
}

#[test]
fn the_counter_counts() {
    assert!(measure(|| drop(std::hint::black_box(vec![1u8; 100]))).count_total > 0);
}

#[test]
fn over_tcp() {
    assert_no_allocation(Tcp::new(), Tcp::new(), "tcp://127.0.0.1:0");
}

#[test]
fn over_shared_memory() {
    assert_no_allocation(Shm::new(), Shm::new(), "shm://@");
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn over_rdma() {
    use transport_rdma::{Rdma, RdmaOptions};
    let rdma = || Rdma::new(RdmaOptions::default()).expect("an RDMA device");
    assert_no_allocation(rdma(), rdma(), "rdma://127.0.0.1:0");
}

//! The far process: a node that does what it is asked to, and the near node that asks it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tests::audit::eventually;
use transport::typed::{self, Postcard, Protocol, Question};
use transport::{MailboxOptions, Node, NodeBuilder, Overflow, Peer, Reason, Reference, Timing};
use transport_rdma::Shm;
use transport_tcp::Tcp;

use crate::Over;
use crate::letters::{self, Letter};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the near process asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open a mailbox of [`Bytes`].
    Open {
        name: String,
        capacity: u32,
        overflow: u8,
    },
    /// Open a mailbox of numbers.
    OpenTyped { name: String },
    /// Take so many messages of a mailbox of bytes, and say their numbers.
    Take { name: String, count: usize },
    /// Take one message of the mailbox of numbers; say it, or nothing if it is none.
    TakeTyped { name: String },
    /// Close a mailbox.
    Close { name: String },
    /// Send the numbers from 0 up there, then close the mailbox if one is named.
    Tell {
        to: Reference,
        count: u64,
        close: Option<String>,
    },
    /// The latest dead letters for this reason.
    Letters { reason: String },
    /// Answer after so long.
    Dawdle(Duration),
    /// Answer with this number.
    Echo(u64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Done {
    AsTold,
    Numbers(Vec<u64>),
    Letters(Vec<Letter>),
}

impl Protocol for Order {
    const NAME: &'static str = "orders to the far process";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

impl Question for Order {
    type Answer = Done;
}

/// A message with a type of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Number(pub(crate) bool, pub(crate) u64);

impl Protocol for Number {
    const NAME: &'static str = "number";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

/// Bytes as they are, and yet of a type that dead letters can tell.
pub(crate) struct Bytes(Vec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Protocol for Bytes {
    const NAME: &'static str = "bytes";
    const VERSION: u16 = 1;
    type Codec = typed::Raw;
}

pub(crate) fn overflow(number: u8) -> Overflow {
    [
        Overflow::Wait,
        Overflow::Fail,
        Overflow::DropNewest,
        Overflow::DropOldest,
    ][usize::from(number)]
}

pub(crate) fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload.try_into().expect("eight bytes"))
}

pub(crate) fn builder(over: Over, name: &str) -> NodeBuilder {
    let timing = Timing {
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(4),
        resume_window: Duration::from_secs(1),
        better_link: Duration::from_secs(1),
    };
    let builder = Node::builder(name)
        .secret(b"two processes, a shared secret")
        .timing(timing);
    match over {
        Over::Tcp => builder.transport(Tcp::new()),
        Over::Shm => builder.transport(Shm::new()),
        #[cfg(feature = "verbs")]
        Over::Rdma => {
            let options = transport_rdma::RdmaOptions::default();
            builder.transport(transport_rdma::Rdma::new(options).expect("an RDMA device"))
        }
    }
}

pub(crate) fn listen(over: Over) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match over {
        Over::Tcp => "tcp://127.0.0.1:0".into(),
        Over::Shm => format!(
            "shm://@actors-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ),
        #[cfg(feature = "verbs")]
        Over::Rdma => {
            let host = std::env::var("SOFT_ROCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1".into());
            format!("rdma://{host}:0")
        }
    }
}

const ROLE: &str = "ACTORS_FAR_PROCESS";

/// The near node, connected to a far process that ends with it.
pub(crate) struct Pair {
    pub(crate) near: Node,
    pub(crate) far: Peer,
    pub(crate) orders: typed::Address<Order>,
    child: Child,
}

pub(crate) fn pair(over: Over) -> Pair {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "far::the_far_process", "--nocapture"])
        .env(ROLE, format!("{over:?}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_once("listens on ")
                .map(|(_, address)| address.to_owned())
        })
        .expect("the far process listens");
    let near = builder(over, "near").start().unwrap();
    let far = near.connect(&address).unwrap();
    let orders = far.typed_address::<Order>("orders").unwrap();
    Pair {
        near,
        far,
        orders,
        child,
    }
}

impl Pair {
    pub(crate) fn order(&self, order: Order) -> Done {
        self.orders.ask(&order, PATIENCE).unwrap()
    }

    /// How many messages have been sent to one of the far mailboxes.
    pub(crate) fn sent(&self, mailbox: &str) -> u64 {
        let seen = self.near.observer().observe().expect("it runs");
        let credits = seen.peers.iter().flat_map(|peer| &peer.credits);
        credits
            .filter(|credit| credit.mailbox == mailbox)
            .map(|credit| credit.sent)
            .sum()
    }

    /// Waits until so many have been.
    pub(crate) fn wait_for_sent(&self, mailbox: &str, count: u64) {
        eventually("the messages are sent", || self.sent(mailbox) >= count);
    }

    pub(crate) fn open(&self, name: &str, capacity: u32, overflow: Overflow) -> transport::Address {
        let opened = self.order(Order::Open {
            name: name.into(),
            capacity,
            overflow: overflow as u8,
        });
        assert_eq!(opened, Done::AsTold);
        self.far.typed_address::<Bytes>(name).unwrap().raw().clone()
    }

    pub(crate) fn take(&self, name: &str, count: usize) -> Vec<u64> {
        match self.order(Order::Take {
            name: name.into(),
            count,
        }) {
            Done::Numbers(numbers) => numbers,
            other => panic!("{other:?}"),
        }
    }

    /// The far process's letters for this reason, once there are so many.
    pub(crate) fn far_letters(&self, reason: Reason, count: usize) -> Vec<Letter> {
        let letters = || {
            let asked = self.order(Order::Letters {
                reason: reason.to_string(),
            });
            match asked {
                Done::Letters(letters) => letters,
                other => panic!("{other:?}"),
            }
        };
        eventually("the far process has its letters", || letters().len() >= count);
        let letters = letters();
        assert_eq!(letters.len(), count, "{letters:?}");
        letters
    }

    /// This process's letters for this reason, once there are so many.
    pub(crate) fn near_letters(&self, reason: Reason, count: usize) -> Vec<Letter> {
        let letters = self.near.dead_letters();
        eventually("each has its letter", || letters.count_of(reason) >= count as u64);
        assert_eq!(letters.count_of(reason), count as u64);
        letters::of_reason(&self.near, reason)
    }

    /// SIGKILL: the far process gets to do nothing more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the far process, when it was started as such.
#[test]
fn the_far_process() {
    let over = match std::env::var(ROLE).as_deref() {
        Ok("Tcp") => Over::Tcp,
        Ok("Shm") => Over::Shm,
        #[cfg(feature = "verbs")]
        Ok("Rdma") => Over::Rdma,
        _ => return,
    };
    let node = builder(over, "far").listen(&listen(over)).start().unwrap();
    let orders = node
        .typed_mailbox::<Order>("orders", MailboxOptions::default())
        .unwrap();
    println!("listens on {}", node.addresses()[0]);
    // The end of the input is the end of the near process, and of this one.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    obey(&node, orders);
}

fn obey(node: &Node, mut orders: typed::Mailbox<Order>) {
    let (mut raw, mut typed) = (HashMap::new(), HashMap::new());
    loop {
        let message = orders.recv().unwrap();
        let asker = message.asker();
        let answer = match message.body {
            Order::Open {
                name,
                capacity,
                overflow: policy,
            } => {
                let options = MailboxOptions {
                    capacity,
                    overflow: overflow(policy),
                    ..MailboxOptions::default()
                };
                raw.insert(name.clone(), node.typed_mailbox::<Bytes>(&name, options).unwrap());
                Done::AsTold
            }
            Order::OpenTyped { name } => {
                let options = MailboxOptions::default();
                typed.insert(
                    name.clone(),
                    node.typed_mailbox::<Number>(&name, options).unwrap(),
                );
                Done::AsTold
            }
            Order::Take { name, count } => {
                let mailbox = raw.get_mut(&name).unwrap();
                Done::Numbers(
                    (0..count)
                        .map(|_| number(mailbox.recv_timeout(PATIENCE).unwrap().unwrap().body))
                        .collect(),
                )
            }
            Order::TakeTyped { name } => match typed.get_mut(&name).unwrap().recv() {
                Ok(message) => Done::Numbers(vec![message.body.1]),
                Err(typed::RecvError::Undecodable(_)) => Done::Numbers(Vec::new()),
                Err(error) => panic!("{error}"),
            },
            Order::Close { name } => {
                assert!(raw.remove(&name).is_some() || typed.remove(&name).is_some());
                Done::AsTold
            }
            Order::Tell { to, count, close } => {
                let to = node.resolve(&to).unwrap();
                for number in 0..count {
                    to.send(&number.to_le_bytes()).unwrap();
                }
                if let Some(name) = close {
                    raw.remove(&name).unwrap();
                }
                Done::AsTold
            }
            Order::Letters { reason } => {
                let reason = Reason::ALL
                    .into_iter()
                    .find(|known| known.to_string() == reason)
                    .unwrap();
                Done::Letters(letters::of_reason(node, reason))
            }
            Order::Dawdle(time) => {
                thread::sleep(time);
                Done::AsTold
            }
            Order::Echo(number) => Done::Numbers(vec![number]),
        };
        // Whoever asked may be gone; an order that was only told has nobody to answer.
        let _ = asker.map(|asker| asker.answer(&answer));
    }
}

//! The far process: a node that does what it is asked to, and the near node that asks it.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tests::audit::eventually;
use tests::over::Over;
use tests::process::{OtherProcess, Role};
use transport::typed::{self, Postcard, Protocol, Question};
use transport::{MailboxOptions, Node, NodeBuilder, Overflow, Peer, Reason, Reference, Timing};

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
    over.builder(name).timing(Timing {
        heartbeat: Duration::from_millis(200),
        silence: Duration::from_secs(4),
        resume_window: Duration::from_secs(1),
        better_link: Duration::from_secs(1),
    })
}

/// The near node, connected to a far process that ends with it.
pub(crate) struct Pair {
    /// Dropped, and so killed, before the near node is.
    process: OtherProcess,
    pub(crate) near: Node,
    pub(crate) far: Peer,
    pub(crate) orders: typed::Address<Order>,
}

pub(crate) fn pair(over: Over) -> Pair {
    let process = OtherProcess::start("far::the_far_process", &over.free_address());
    let near = builder(over, "near").start().unwrap();
    let far = near.connect(&process.told()).unwrap();
    let orders = far.typed_address::<Order>("orders").unwrap();
    Pair {
        process,
        near,
        far,
        orders,
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
        self.process.kill();
    }
}

/// Not a test: the far process, when it was started as such.
#[test]
fn the_far_process() {
    let Some(role) = Role::taken() else { return };
    let over = Over::of(role.argument());
    let node = builder(over, "far").listen(role.argument()).start().unwrap();
    let orders = node
        .typed_mailbox::<Order>("orders", MailboxOptions::default())
        .unwrap();
    role.tell(&node.addresses()[0]);
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

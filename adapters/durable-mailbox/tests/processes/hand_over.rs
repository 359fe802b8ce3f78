//! A mailbox goes back and forth between two processes while a third keeps sending to it; then also while either is killed.
//! At the end the two journals together are held against what was sent: every message once, in order, at one owner.
//!
//! All of it for each kind of actor: `actor` tells them apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_mailbox::Home;
use pmem_journal::{Mode, Reader};
use transport::MailboxOptions;

use crate::actor::Kind;
use crate::history::TAKEN;
use crate::program::{PATIENCE, Process, Random, chosen_transport, free_address, journal, node, times};
use crate::sender;

struct Cluster {
    kind: Kind,
    transport: String,
    dir: tempfile::TempDir,
    addresses: [String; 2],
}

const NAMES: [&str; 2] = ["a", "b"];

impl Cluster {
    fn new(kind: Kind, transport: &str) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        Cluster {
            kind,
            transport: transport.to_owned(),
            addresses: [(); 2].map(|()| free_address(transport, dir.path())),
            dir,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self, which: usize, create: bool) -> Process {
        let (name, other) = (NAMES[which], NAMES[1 - which]);
        let dir = self.at(name);
        let create = if create { "create" } else { "" };
        let kind = format!("{:?}", self.kind);
        let role = [
            "home",
            &kind,
            name,
            dir.to_str().unwrap(),
            &self.addresses[which],
            other,
            &self.addresses[1 - which],
            create,
        ];
        let mut process = Process::start(&role);
        process.heard("ready").expect("it starts");
        process
    }

    fn sender(&self) -> Process {
        let mut process = sender::start(self.kind.mode(), &self.at("sender"), "a", &self.addresses[0]);
        process.heard("ready").expect("it starts");
        process
    }

    /// The effects at both nodes, in the order in which they were taken.
    fn effects(&self) -> Vec<u64> {
        let mut effects: Vec<(u64, u64)> = NAMES
            .iter()
            .flat_map(|name| {
                let replay = Reader::open(self.at(name)).unwrap().replay(0).unwrap();
                replay
                    .owned()
                    .map(Result::unwrap)
                    .filter(|event| event.kind == TAKEN)
                    .map(|event| {
                        let word =
                            |at: usize| u64::from_le_bytes(event.payload[at..at + 8].try_into().unwrap());
                        (word(0), word(8))
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        // One batch has one time, and is in order.
        effects.sort_by_key(|(time, _)| *time);
        effects.into_iter().map(|(_, number)| number).collect()
    }

    /// Stops the sender, and checks that each of its messages had its effect once, in order. Returns how many.
    fn audit(&self, sender: &mut Process) -> u64 {
        sender.tell("finish");
        let sent: u64 = sender.heard("finished ").expect("it finishes").parse().unwrap();
        let waiting = Instant::now();
        while self.effects().len() < sent as usize {
            assert!(
                waiting.elapsed() < PATIENCE,
                "{} effects of {sent} in time",
                self.effects().len()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(
            self.effects() == (1..=sent).collect::<Vec<_>>(),
            "not each once and in order"
        );
        sent
    }
}

#[test]
fn a_mailbox_with_a_durable_state_goes_back_and_forth_and_its_sender_follows() {
    back_and_forth(Kind::DurableState, &chosen_transport());
}

#[test]
fn a_mailbox_that_is_not_durable_goes_back_and_forth_and_its_sender_follows() {
    back_and_forth(Kind::VolatileWithoutState, &chosen_transport());
}

#[test]
fn a_mailbox_with_a_snapshot_and_its_tail_goes_back_and_forth_and_its_sender_follows() {
    back_and_forth(Kind::SnapshotAndTail, &chosen_transport());
}

#[test]
fn a_mailbox_goes_back_and_forth_and_its_sender_follows_over_shm() {
    back_and_forth(Kind::DurableState, "shm");
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn a_mailbox_goes_back_and_forth_and_its_sender_follows_over_rdma() {
    back_and_forth(Kind::DurableState, "rdma");
}

fn back_and_forth(kind: Kind, transport: &str) {
    let hand_overs = times("HAND_OVERS", 40);
    let cluster = Cluster::new(kind, transport);
    let mut homes = [cluster.home(0, true), cluster.home(1, false)];
    let mut sender = cluster.sender();
    let mut random = Random(0xfade);
    let start = Instant::now();
    for round in 0..hand_overs {
        std::thread::sleep(Duration::from_micros(random.below(10_000)));
        let owner = &mut homes[round % 2];
        let outcome = loop {
            owner.tell("hand over");
            // It may not have arrived there yet.
            match owner.heard("outcome ").expect("it lives").as_str() {
                "not here" => assert!(start.elapsed() < 10 * PATIENCE),
                outcome => break outcome.to_owned(),
            }
        };
        assert_eq!(outcome, "handed", "round {round}");
    }
    let took = start.elapsed();
    let sent = cluster.audit(&mut sender);
    println!(
        "{}, {kind:?}: {hand_overs} hand-overs in {took:?}, {sent} messages, each once and in order",
        cluster.transport
    );
}

#[test]
fn a_hand_over_with_a_durable_state_that_a_kill_cuts_short_leaves_one_owner() {
    cut_short(Kind::DurableState, &chosen_transport());
}

#[test]
fn a_hand_over_of_what_is_not_durable_that_a_kill_cuts_short_leaves_one_owner() {
    cut_short(Kind::VolatileWithoutState, &chosen_transport());
}

#[test]
fn a_hand_over_with_a_snapshot_and_its_tail_that_a_kill_cuts_short_leaves_one_owner() {
    cut_short(Kind::SnapshotAndTail, &chosen_transport());
}

#[test]
fn a_hand_over_that_a_kill_cuts_short_leaves_one_owner_over_shm() {
    cut_short(Kind::DurableState, "shm");
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn a_hand_over_that_a_kill_cuts_short_leaves_one_owner_over_rdma() {
    cut_short(Kind::DurableState, "rdma");
}

fn cut_short(kind: Kind, transport: &str) {
    let kills = times("HAND_OVER_KILLS", 8);
    let cluster = Cluster::new(kind, transport);
    let mut homes = [cluster.home(0, true), cluster.home(1, false)];
    let mut sender = cluster.sender();
    let mut random = Random(0xfeed);
    let mut moved = 0;
    let mut owner = 0;
    for round in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        // Whichever owns it.
        homes.iter_mut().for_each(|home| home.tell("hand over"));
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
        let which = random.below(2) as usize;
        homes[which].kill();
        homes[which] = cluster.home(which, false);
        let waiting = Instant::now();
        loop {
            let owners: Vec<bool> = homes
                .iter_mut()
                .map(|home| {
                    home.tell("who");
                    home.heard("owner ").expect("it lives") == "true"
                })
                .collect();
            match owners[..] {
                [true, true] => panic!("round {round}: two owners"),
                [false, false] => {
                    assert!(waiting.elapsed() < PATIENCE, "round {round}: no owner");
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => {
                    let now = usize::from(owners[1]);
                    moved += usize::from(now != owner);
                    owner = now;
                    break;
                }
            }
        }
    }
    let sent = cluster.audit(&mut sender);
    println!(
        "{}, {kind:?}: {kills} hand-overs with a kill, {moved} of which moved the mailbox, {sent} messages, each once and in order",
        cluster.transport
    );
}

/// `Arc` is what the homes' nodes and journals are shared by; a home outlives neither.
#[test]
fn a_home_knows_again_what_it_owned_when_it_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let node = node("alone", None);
    let reopen = || {
        let journal = journal(Mode::Buffered, dir.path());
        Home::open(Arc::clone(&node), journal, MailboxOptions::default()).unwrap()
    };
    let home = reopen();
    let inbox = home.inbox("numbers").unwrap();
    assert!(matches!(
        home.inbox("numbers"),
        Err(durable_mailbox::Error::AlreadyOpen)
    ));
    drop(inbox);
    drop(home);
    let home = reopen();
    assert_eq!(home.owned(), ["numbers"]);
    assert!(home.inbox("numbers").is_ok());
}

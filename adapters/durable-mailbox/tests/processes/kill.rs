//! Reliable delivery between two processes, either of which is killed again and again under load; then the receiver's
//! journal is held against what was sent: every message once, in order.

use std::path::Path;
use std::time::{Duration, Instant};

use durable_mailbox::Home;
use pmem_journal::{EntityId, Event, Mode, Reader};
use transport::MailboxOptions;

use crate::program::{
    PATIENCE, Process, Random, chosen_transport, free_address, journal, node, obey_lines, times,
};
use crate::sender;

/// The receiver's own events: one for each message, with its number.
const EFFECT: u16 = 1;

/// Takes what comes, a few at a time, each with its effect.
pub(crate) fn receive(dir: &Path, address: &str) {
    let node = node("receiver", Some(address));
    let journal = journal(Mode::Buffered, dir);
    let home = Home::open(node, journal, MailboxOptions::default()).unwrap();
    let mut inbox = home.inbox("numbers").unwrap();
    obey_lines(|_| {});
    println!("ready");
    loop {
        if inbox.next(Duration::from_secs(1)).unwrap().is_none() {
            continue;
        }
        let numbers: Vec<[u8; 8]> = inbox
            .all_pending()
            .take(10)
            .map(|delivery| sender::number(delivery.payload).to_le_bytes())
            .collect();
        let effects: Vec<_> = numbers
            .iter()
            .map(|number| Event::new(EntityId::named("effects"), EFFECT, number))
            .collect();
        inbox.take(effects.len(), &effects).unwrap();
    }
}

#[test]
fn every_message_has_its_effect_once_and_in_order_whoever_is_killed() {
    kill_either_over(&chosen_transport());
}

#[test]
fn every_message_has_its_effect_once_and_in_order_whoever_is_killed_over_shm() {
    kill_either_over("shm");
}

#[cfg(feature = "verbs")]
#[test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
fn every_message_has_its_effect_once_and_in_order_whoever_is_killed_over_rdma() {
    kill_either_over("rdma");
}

fn kill_either_over(transport: &str) {
    let kills = times("KILLS", 12);
    let dir = tempfile::tempdir().unwrap();
    let (at_sender, at_receiver) = (dir.path().join("sender"), dir.path().join("receiver"));
    let address = free_address(transport, dir.path());
    let sender = || sender::start(Mode::Buffered, &at_sender, "receiver", &address);
    let receiver = || Process::start(&["receiver", at_receiver.to_str().unwrap(), &address]);
    let mut processes = [sender(), receiver()];
    let mut random = Random(0x5eed);
    let start = Instant::now();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(120_000)));
        let which = random.below(2) as usize;
        processes[which].kill();
        processes[which] = if which == 0 { sender() } else { receiver() };
        // Now and then one is killed before it is up again.
        if random.below(4) > 0 {
            processes[which].heard("ready").expect("it starts");
        }
    }
    processes[0].tell("finish");
    let finished = processes[0].heard("finished ").expect("it finishes");
    let sent: u64 = finished.parse().unwrap();
    // What is acknowledged is durable at the receiver; its effect follows.
    let effects = || -> Vec<u64> {
        let replay = Reader::open(&at_receiver).unwrap().replay(0).unwrap();
        replay
            .owned()
            .map(Result::unwrap)
            .filter(|event| event.kind == EFFECT)
            .map(|event| u64::from_le_bytes(event.payload[..].try_into().unwrap()))
            .collect()
    };
    let waiting = Instant::now();
    while effects().len() < sent as usize {
        assert!(
            waiting.elapsed() < PATIENCE,
            "{} effects of {sent} in time",
            effects().len()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let expected: Vec<u64> = (1..=sent).collect();
    let effects: Vec<u64> = effects().into_iter().take(sent as usize).collect();
    assert!(effects == expected, "not each once and in order");
    println!(
        "{transport}: {kills} kills, {sent} messages, each effect once and in order, {:?}",
        start.elapsed()
    );
}

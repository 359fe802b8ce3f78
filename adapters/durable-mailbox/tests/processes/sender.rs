//! The sending process: its own numbers without end, to the mailbox `numbers` wherever that is.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use durable_mailbox::{Outbox, OutboxOptions};
use pmem_journal::Mode;
use transport::Reference;

use crate::program::{PATIENCE, Process, journal, node, obey_lines};

/// Starts the sending process. What it finds at `address` is the node `to`.
pub(crate) fn start(mode: Mode, dir: &Path, to: &str, address: &str) -> Process {
    Process::start(&["sender", mode.name(), dir.to_str().unwrap(), to, address])
}

/// Message n says n, in 8 bytes and some more.
pub(crate) fn send(mode: Mode, dir: &Path, to: &str, address: &str) {
    let destination = Reference {
        node: to.into(),
        addresses: vec![address.into()],
        mailbox: "numbers".into(),
    };
    let options = OutboxOptions {
        window: 200,
        answer_within: Duration::from_millis(500),
        ..OutboxOptions::default()
    };
    let journal = journal(mode, dir);
    let outbox = Outbox::open(node("sender", None), journal, "numbers", destination, options).unwrap();
    let (stop, stopped) = channel();
    obey_lines(move |line| {
        assert_eq!(line, "finish");
        let _ = stop.send(());
    });
    println!("ready");
    loop {
        let next = outbox.last() + 1;
        let mut payload = vec![0; 8 + next as usize % 300];
        payload[..8].copy_from_slice(&next.to_le_bytes());
        assert_eq!(outbox.send(&payload).unwrap(), next);
        if stopped.try_recv().is_ok() {
            assert!(outbox.flush(PATIENCE), "{outbox:?}");
            println!("finished {next}");
            // Nothing more: what was sent is what must be there.
            loop {
                std::thread::park();
            }
        }
    }
}

/// The number that a message says.
pub(crate) fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

//! What a node says last, at a peer that finds the link closed before it has heard it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tests::audit::{PATIENCE, eventually};
use tests::over::Over;
use transport::{Ended, Event, MailboxOptions, Node, Overflow, Wait};

/// How often a node says something and closes.
const TIMES: u32 = 200;

fn listens(over: Over, wait: Wait) -> Node {
    let node = over.builder("there").listen(&over.free_address());
    node.wait(wait).start().unwrap()
}

fn told_of_the_end(events: &Receiver<Event>) -> Ended {
    loop {
        if let Event::Ended { why, .. } = events.recv_timeout(PATIENCE).expect("in time") {
            return why;
        }
    }
}

#[test]
fn over_shared_memory_they_reach_a_peer_that_is_about_to_sleep() {
    let there = listens(Over::Shm, Wait::Park);
    let mut inbox = there.mailbox("inbox", MailboxOptions::default()).unwrap();
    let events = there.events(1_024);
    for time in 0..TIMES {
        let here = Over::Shm.builder("here").start().unwrap();
        let to_there = here.connect(&there.addresses()[0]).unwrap();
        let to_there = to_there.address("inbox").unwrap();
        to_there.send(b"wakes").unwrap();
        // Each time a little later on its way to sleep.
        let until = Instant::now() + Duration::from_nanos(500) * time;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        to_there.send(b"last").unwrap();
        drop(here);
        assert_eq!(told_of_the_end(&events), Ended::Closed);
        for word in [&b"wakes"[..], b"last"] {
            let message = inbox.try_recv().unwrap().expect("handed out before the end");
            assert_eq!(message.payload, word);
        }
    }
}

#[test]
fn over_tcp_a_goodbye_reaches_a_peer_that_is_sending_meanwhile() {
    let there = listens(Over::Tcp, Wait::default());
    let events = there.events(1_024);
    for _ in 0..TIMES {
        let here = Over::Tcp.builder("here").start().unwrap();
        let takes_any = MailboxOptions {
            overflow: Overflow::DropOldest,
            ..MailboxOptions::default()
        };
        let _inbox = here.mailbox("inbox", takes_any).unwrap();
        let _to_there = here.connect(&there.addresses()[0]).unwrap();
        eventually("its session", || !there.peers().is_empty());
        let to_here = there.peers()[0].address("inbox").unwrap();
        let sends = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while to_here.send(b"meanwhile").is_ok() {
                    sends.store(true, Ordering::Relaxed);
                }
            });
            eventually("it is sending", || sends.load(Ordering::Relaxed));
            drop(here);
        });
        assert_eq!(told_of_the_end(&events), Ended::Closed);
    }
}

//! Numbers that flow from one node to another while something happens to what is between them, and the check that
//! each arrived once and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use transport::{Address, Event, Mailbox, MailboxOptions, Node, Peer};

/// How long anything that should happen may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Sends numbers until told to stop; returns how many.
fn keep_sending(address: Address, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut next = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let mut message = vec![0; 8 + next as usize % 200];
            message[..8].copy_from_slice(&next.to_le_bytes());
            address.send(&message).unwrap();
            next += 1;
        }
        next
    })
}

/// Takes numbers in order until told how many there were.
fn keep_checking(mut inbox: Mailbox, total: Receiver<u64>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut next = 0u64;
        let mut last = None;
        let mut since = Instant::now();
        while last != Some(next) {
            last = last.or_else(|| total.try_recv().ok());
            if let Some(message) = inbox.recv_timeout(Duration::from_millis(50)).unwrap() {
                assert_eq!(
                    u64::from_le_bytes(message.payload[..8].try_into().unwrap()),
                    next,
                    "out of order"
                );
                next += 1;
                since = Instant::now();
            }
            assert!(
                since.elapsed() < PATIENCE,
                "nothing after {next} messages, {last:?} sent"
            );
        }
        assert!(
            inbox.recv_timeout(Duration::from_millis(100)).unwrap().is_none(),
            "a message too many"
        );
    })
}

/// Runs `drill` while numbers flow to node `b`, then checks that each arrived once and in order. Returns how many.
///
/// # Panics
/// When one did not.
pub fn audited(b: &Node, to_b: &Peer, drill: impl FnOnce()) -> u64 {
    let inbox = b.mailbox("inbox", MailboxOptions::default()).unwrap();
    let address = to_b.address("inbox").unwrap();
    let (tell, total) = std::sync::mpsc::channel();
    let checking = keep_checking(inbox, total);
    let stop = Arc::new(AtomicBool::new(false));
    let sending = keep_sending(address, stop.clone());
    {
        let _stops = SetWhenDropped(&stop);
        drill();
    }
    let sent = sending.join().unwrap();
    tell.send(sent).unwrap();
    checking.join().unwrap();
    sent
}

/// Sets a flag when it is dropped, so that threads which go on until then end with a test that fails as with one that does not.
pub struct SetWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the condition holds.
///
/// # Panics
/// When it does not in time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a session is told to go on over another link; returns which.
///
/// # Panics
/// When it is not in time.
pub fn resumed(events: &Receiver<Event>) -> String {
    loop {
        if let Event::Resumed { link, .. } = events.recv_timeout(PATIENCE).expect("a change of link in time")
        {
            return link;
        }
    }
}

//! As many mailboxes as a session has handles, and one more.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::iter;
use tests::audit::{PATIENCE, eventually};
use tests::over::Over;
use transport::stream::{OpenError, StreamOptions};
use transport::{Mailbox, MailboxOptions, Node, ResolveError, SendError, Timing};

/// Handles of a session: one of the 65,536 is for answers.
const HANDLES: usize = 65_535;
/// Asked for at one time.
const AT_ONCE: usize = 256;

fn mailbox(node: &Node, number: usize) -> Mailbox {
    node.mailbox(&number.to_string(), MailboxOptions::default())
        .unwrap()
}

fn taken(mailbox: &mut Mailbox) -> Vec<u8> {
    let message = mailbox
        .recv_timeout(PATIENCE)
        .unwrap()
        .expect("a message in time");
    message.payload.to_vec()
}

#[tokio::test]
async fn a_session_without_a_handle_left_says_so_and_has_one_again_when_a_mailbox_is_closed() {
    let builder = |name| Over::Shm.builder(name).timing(Timing::default());
    let b = builder("b").listen(&Over::Shm.free_address()).start().unwrap();
    let a = builder("a").start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let mut mailboxes: Vec<Mailbox> = (0..=HANDLES).map(|number| mailbox(&b, number)).collect();
    let names: Vec<String> = (0..HANDLES).map(|number| number.to_string()).collect();
    let mut addresses: Vec<_> = iter(&names)
        .map(|name| to_b.address_async(name))
        .buffered(AT_ONCE)
        .map(Result::unwrap)
        .collect()
        .await;
    let one_more = HANDLES.to_string();
    assert_eq!(
        to_b.address(&one_more).unwrap_err(),
        ResolveError::TooManyHandles {
            node: "b".into(),
            mailbox: one_more.clone()
        }
    );
    // All the others go on, and one that is closed gives its handle to the next.
    let (closed, last) = (addresses.remove(0), addresses.last().unwrap());
    last.send(b"the last").unwrap();
    assert_eq!(taken(&mut mailboxes[HANDLES - 1]), b"the last");
    drop(mailboxes.remove(0));
    eventually("the mailbox's end is known", || {
        matches!(closed.try_send(b"too late"), Err(SendError::MailboxClosed { .. }))
    });
    drop(closed);
    eventually("a handle is left", || to_b.address(&one_more).is_ok());
    to_b.address(&one_more).unwrap().send(b"one more").unwrap();
    assert_eq!(taken(mailboxes.last_mut().unwrap()), b"one more");

    // One for the listener, one that is left: a two-way stream, which needs two, is refused and leaves it to one that needs no more.
    let mut listener = b.listen_streams("here", StreamOptions::default()).unwrap();
    addresses.drain(..2);
    mailboxes.drain(..2);
    eventually("the listener has a handle", || {
        to_b.address("stream:here").is_ok()
    });
    // Time enough for the one to come back from the resolving above, which takes a heartbeat.
    let start = Instant::now();
    while start.elapsed() < 4 * Timing::default().heartbeat {
        let (opened, accepted) = tokio::join!(to_b.open_stream("here", StreamOptions::default()), async {
            listener.accept().await.unwrap().accept()
        });
        assert_eq!(opened.unwrap_err(), OpenError::Refused);
        assert_eq!(accepted.unwrap_err(), OpenError::TooMany);
    }
    loop {
        let (sender, receiver) = tokio::join!(to_b.open_sender("here"), async {
            listener.accept().await.unwrap().accept_receiver()
        });
        if sender.is_ok() && receiver.is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "no handle is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! As many mailboxes as a session has handles, and one more.

use futures_util::StreamExt;
use futures_util::stream::iter;
use tests::audit::eventually;
use tests::over::Over;
use transport::{Mailbox, MailboxOptions, Node, ResolveError, SendError, Timing};

/// Handles of a session: one of the 65,536 is for answers.
const HANDLES: usize = 65_535;
/// Asked for at one time.
const AT_ONCE: usize = 256;

fn mailbox(node: &Node, number: usize) -> Mailbox {
    node.mailbox(&number.to_string(), MailboxOptions::default())
        .unwrap()
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
    assert_eq!(mailboxes[HANDLES - 1].recv().unwrap().payload, b"the last");
    drop(mailboxes.remove(0));
    eventually("the mailbox's end is known", || {
        matches!(closed.try_send(b"too late"), Err(SendError::MailboxClosed { .. }))
    });
    drop(closed);
    eventually("a handle is left", || to_b.address(&one_more).is_ok());
    to_b.address(&one_more).unwrap().send(b"one more").unwrap();
    assert_eq!(mailboxes.last_mut().unwrap().recv().unwrap().payload, b"one more");
}

//! Typed addresses between two nodes: what is refused when a name is resolved, what is not decoded, and references that
//! hold on a third node.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use transport::typed::{InPlace, Postcard, Protocol, Raw, RecvError, Reference};
use transport::{MailboxOptions, Node, NodeBuilder, Reason, ReferenceError, ResolveError, SendError};
use transport_tcp::Tcp;
use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Counting {
    Add(u32),
    Tell { to: Reference<Sum> },
    Endless(Endless),
}

impl Protocol for Counting {
    const NAME: &'static str = "counting";
    const VERSION: u16 = 2;
    type Codec = Postcard;
}

/// The same protocol in a version that nobody here understands.
#[derive(Debug, Serialize, Deserialize)]
struct Newer;

impl Protocol for Newer {
    const NAME: &'static str = "counting";
    const VERSION: u16 = 3;
    type Codec = Postcard;
}

/// Serializes to something of another length each time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Endless;

impl Serialize for Endless {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let even = CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        serializer.serialize_str(if even { "endless" } else { "end" })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Sum {
    total: U64,
}

impl Protocol for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u16 = 1;
    type Codec = InPlace;
}

struct Picture(Vec<u8>);

impl AsRef<[u8]> for Picture {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Protocol for Picture {
    const NAME: &'static str = "picture";
    const VERSION: u16 = 1;
    type Codec = Raw;
}

fn builder(name: &str) -> NodeBuilder {
    Node::builder(name)
        .secret(b"typed addresses, a shared secret")
        .transport(Tcp::new())
}

fn listening(name: &str) -> Node {
    builder(name).listen("tcp://127.0.0.1:0").start().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_wrong_type_and_an_unknown_version_are_refused_with_the_names_of_both_sides() {
    let (b, a) = (listening("b"), builder("a").start().unwrap());
    let options = MailboxOptions::default();
    let mut counter = b.typed_mailbox::<Counting>("counter", options).unwrap();
    let _raw = b.mailbox("raw", options).unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    for (said, refused) in [
        (
            to_b.typed_address::<Sum>("counter").map(drop),
            r#"mailbox "counter" of node "b" speaks counting version 2, and was asked for sum version 1"#,
        ),
        (
            to_b.typed_address::<Newer>("counter").map(drop),
            r#"mailbox "counter" of node "b" speaks counting version 2, and was asked for counting version 3"#,
        ),
        (
            to_b.typed_address::<Sum>("raw").map(drop),
            r#"mailbox "raw" of node "b" speaks raw bytes, and was asked for sum version 1"#,
        ),
        (
            b.typed_address::<Newer>("counter").map(drop),
            r#"mailbox "counter" of node "b" speaks counting version 2, and was asked for counting version 3"#,
        ),
    ] {
        let error = said.unwrap_err();
        assert!(matches!(error, ResolveError::WrongProtocol { .. }), "{error:?}");
        assert_eq!(error.to_string(), refused);
    }
    let address = to_b.typed_address::<Counting>("counter").unwrap();
    address.send(&Counting::Add(3)).unwrap();
    assert_eq!(
        counter.recv_timeout(PATIENCE).unwrap().unwrap().body,
        Counting::Add(3)
    );
}

#[test]
fn bytes_that_are_no_message_are_an_error_counted_and_a_dead_letter_and_the_next_message_is_taken() {
    let (b, a) = (listening("b"), builder("a").start().unwrap());
    let mut counter = b
        .typed_mailbox::<Counting>("counter", MailboxOptions::default())
        .unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let raw = to_b.address("counter").unwrap();
    raw.try_send_with(&[200, 1, 2], Some(77)).unwrap();
    let typed = to_b.typed_address::<Counting>("counter").unwrap();
    typed.send(&Counting::Add(1)).unwrap();
    let Err(RecvError::Undecodable(error)) = counter.recv() else {
        panic!("decoded")
    };
    assert_eq!((error.protocol, error.len), ("counting", 3));
    assert_eq!(counter.recv().unwrap().body, Counting::Add(1));
    assert_eq!(b.dead_letters().count_of(Reason::Undecodable), 1);
    let letter = b.dead_letters().latest().remove(0);
    assert_eq!((letter.correlation, letter.len), (Some(77), 3));
}

#[test]
fn a_message_that_does_not_encode_takes_no_room_and_the_next_is_sent() {
    let (b, a) = (listening("b"), builder("a").start().unwrap());
    let options = MailboxOptions {
        capacity: 1,
        ..MailboxOptions::default()
    };
    let mut counter = b.typed_mailbox::<Counting>("counter", options).unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let address = to_b.typed_address::<Counting>("counter").unwrap();
    for _ in 0..3 {
        let error = address.try_send(&Counting::Endless(Endless)).unwrap_err();
        assert!(matches!(error, SendError::Unencodable(_)), "{error}");
    }
    address.try_send(&Counting::Add(5)).unwrap();
    assert_eq!(counter.recv().unwrap().body, Counting::Add(5));
}

#[test]
fn views_and_raw_bytes_arrive_as_they_were_sent() {
    let (b, a) = (listening("b"), builder("a").start().unwrap());
    let mut sums = b.typed_mailbox::<Sum>("sums", MailboxOptions::default()).unwrap();
    let mut pictures = b
        .typed_mailbox::<Picture>("pictures", MailboxOptions::default())
        .unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    to_b.typed_address::<Sum>("sums")
        .unwrap()
        .send(&Sum { total: 42.into() })
        .unwrap();
    to_b.typed_address::<Picture>("pictures")
        .unwrap()
        .send(&Picture(vec![1, 2, 3]))
        .unwrap();
    assert_eq!(sums.recv().unwrap().body.total.get(), 42);
    assert_eq!(pictures.recv().unwrap().body, [1, 2, 3]);
}

#[test]
fn a_reference_in_a_message_is_an_address_on_a_third_node() {
    let (a, b, c) = (listening("a"), listening("b"), listening("c"));
    let mut answers = a
        .typed_mailbox::<Sum>("answers", MailboxOptions::default())
        .unwrap();
    let mut first = b
        .typed_mailbox::<Counting>("first", MailboxOptions::default())
        .unwrap();
    let mut second = c
        .typed_mailbox::<Counting>("second", MailboxOptions::default())
        .unwrap();
    let to = a.typed_address::<Sum>("answers").unwrap().reference();
    let question = Counting::Tell { to };
    a.connect(&b.addresses()[0])
        .unwrap()
        .typed_address::<Counting>("first")
        .unwrap()
        .send(&question)
        .unwrap();
    // b hands the question on to c, which has never heard of a.
    let passed_on = first.recv().unwrap().body;
    assert_eq!(passed_on, question);
    b.connect(&c.addresses()[0])
        .unwrap()
        .typed_address::<Counting>("second")
        .unwrap()
        .send(&passed_on)
        .unwrap();
    let Counting::Tell { to } = second.recv().unwrap().body else {
        panic!("another message")
    };
    for total in [1, 2] {
        let address = c.resolve_typed(&to).unwrap();
        address.send(&Sum { total: total.into() }).unwrap();
    }
    assert_eq!(answers.recv().unwrap().body.total.get(), 1);
    assert_eq!(answers.recv().unwrap().body.total.get(), 2);
    assert_eq!(
        c.peers().len(),
        2,
        "one session with a, however often it is resolved"
    );
}

#[test]
fn a_reference_to_a_node_that_is_gone_or_another_or_out_of_reach_says_so() {
    let (a, b, c) = (listening("a"), listening("b"), builder("c").start().unwrap());
    let _inbox = a.mailbox("inbox", MailboxOptions::default()).unwrap();
    let mut reference = a.address("inbox").unwrap().reference();
    reference.addresses = b.addresses().to_vec();
    let error = c.resolve(&reference).unwrap_err();
    assert!(
        matches!(&error, ReferenceError::AnotherNode { node, found } if node == "a" && found == "b"),
        "{error}"
    );
    reference.addresses = vec!["smoke://signals".into()];
    assert!(matches!(
        c.resolve(&reference),
        Err(ReferenceError::OutOfReach { .. })
    ));
    let gone = listening("gone").addresses().to_vec();
    reference.addresses = gone;
    assert!(matches!(
        c.resolve(&reference),
        Err(ReferenceError::Connect { .. })
    ));
}

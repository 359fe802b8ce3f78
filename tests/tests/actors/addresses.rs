//! Addresses: what is refused when a name is resolved, references in messages, and messages that are read where they lie.

use std::time::Instant;

use transport::frame;
use transport::typed::{InPlace, Protocol};
use transport::{Drive, MailboxOptions, ResolveError};
use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::far::{Done, Number, Order, PATIENCE, builder, number, pair};
use tests::over::Over;

/// The orders of the far process in a version that it does not understand.
struct Newer;

impl AsRef<[u8]> for Newer {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Protocol for Newer {
    const NAME: &'static str = Order::NAME;
    const VERSION: u16 = 2;
    type Codec = transport::typed::Raw;
}

fn another_type_and_another_version_are_refused_with_the_names_of_both_sides(over: Over) {
    let pair = pair(over);
    let speaks =
        r#"mailbox "orders" of node "far" speaks orders to the far process version 1, and was asked for"#;
    let refused = [
        (
            pair.far.typed_address::<Number>("orders").map(drop),
            format!("{speaks} number version 1"),
        ),
        (
            pair.far.typed_address::<Newer>("orders").map(drop),
            format!("{speaks} orders to the far process version 2"),
        ),
    ];
    for (resolved, why) in refused {
        let error = resolved.unwrap_err();
        assert!(matches!(error, ResolveError::WrongProtocol { .. }), "{error:?}");
        assert_eq!(error.to_string(), why);
    }
}

fn a_reference_in_a_message_is_an_address_on_a_node_that_never_heard_of_its_own(over: Over) {
    let pair = pair(over);
    // The far process has a session with the near node alone.
    let third = builder(over, "third")
        .listen(&over.free_address())
        .start()
        .unwrap();
    let mut replies = third.mailbox("replies", MailboxOptions::default()).unwrap();
    let to = third.address("replies").unwrap().reference();
    for _ in 0..2 {
        let told = pair.order(Order::Tell {
            to: to.clone(),
            count: 3,
            close: None,
        });
        assert_eq!(told, Done::AsTold);
        for expected in 0..3 {
            let reply = replies.recv_timeout(PATIENCE).unwrap().expect("in time");
            assert_eq!(number(reply.payload), expected);
            assert_eq!(reply.peer().expect("its session lives").node(), "far");
        }
    }
    assert_eq!(
        third.peers().len(),
        1,
        "one session, however often it is resolved"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct View {
    number: U64,
}

impl Protocol for View {
    const NAME: &'static str = "view";
    const VERSION: u16 = 1;
    type Codec = InPlace;
}

fn a_view_is_read_where_it_arrived_in_the_ring(over: Over) {
    const COUNT: u64 = 1_000;
    let pair = pair(over);
    // Who polls drives, and is lent what arrives.
    let polled = builder(over, "polled")
        .drive(Drive::Caller)
        .listen(&over.free_address());
    let polled = polled.start().unwrap();
    let mut views = polled
        .typed_mailbox::<View>("views", MailboxOptions::default())
        .unwrap();
    let to = polled.address("views").unwrap().reference();
    let tell = Order::Tell {
        to,
        count: COUNT,
        close: None,
    };
    pair.orders.send(&tell).unwrap();
    let mut seen: Vec<(u64, usize)> = Vec::new();
    let start = Instant::now();
    while seen.len() < COUNT as usize {
        assert!(start.elapsed() < PATIENCE, "{} of {COUNT} in time", seen.len());
        views
            .poll(|message| {
                let lies_at = std::ptr::from_ref(message.body).addr();
                seen.push((message.body.number.get(), lies_at));
            })
            .unwrap();
    }
    assert!(seen.iter().map(|(number, _)| *number).eq(0..COUNT));
    // One frame after the other, as in the ring; copied out, they would lie where there is room.
    let apart = frame::size(size_of::<View>());
    let in_a_row = seen
        .windows(2)
        .filter(|pair| pair[0].1 + apart == pair[1].1)
        .count();
    assert!(in_a_row > COUNT as usize / 2, "{in_a_row} of {COUNT} in a row");
}

tests::over_each_transport! {
    another_type_and_another_version_are_refused_with_the_names_of_both_sides,
    a_reference_in_a_message_is_an_address_on_a_node_that_never_heard_of_its_own,
    a_view_is_read_where_it_arrived_in_the_ring,
}

//! Between which ends a connection runs, and who refuses where nobody listens.

use std::thread;
use std::time::{Duration, Instant};

use super::{Harness, PATIENCE};

/// What shows that a peer's process is gone: see [`crate::NodeBuilder::refused_window`]. A transport that tells no ends has nothing
/// to keep here.
pub fn both_sides_tell_the_same_ends_and_where_nobody_listens_any_more_the_host_refuses(
    harness: &dyn Harness,
) {
    let transport = harness.transport();
    let address = harness.address();
    let (_, address) = address.split_once("://").expect("an address with its scheme");
    let mut listener = transport.listen(address).expect("listens");
    let deadline = Instant::now() + PATIENCE;
    let dialled = transport.dial(&listener.address(), deadline).expect("dials");
    let accepted = loop {
        match listener.accept().expect("accepts") {
            Some(wire) => break wire,
            None => thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < deadline, "nobody dialled");
    };
    let (Some(dialer), Some(listens)) = (dialled.ends(), accepted.ends()) else {
        assert_eq!(dialled.ends(), accepted.ends(), "told by one side alone");
        return;
    };
    assert!(dialer.meet(&listens), "{dialer:?} and {listens:?}");
    assert!(!dialer.meet(&dialer) && !listens.meet(&listens));
    transport
        .dial(&dialer.peer, deadline)
        .expect("the end of a connection is an address");
    drop((dialled, accepted, listener));
    let error = transport.dial(&dialer.peer, deadline).err();
    let error = error.expect("nobody listens there");
    assert!(error.is_refusal(), "{error}");
}

//! A process that has no descriptor left for a peer's shared memory says so. Alone in its process, whose limit it changes.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use transport::lane::LaneSizes;
use transport::link::{LinkError, Transport};
use transport_rdma::Shm;

#[test]
fn memory_that_finds_no_descriptor_left_is_missed_by_that_name() {
    let (shm, sizes) = (Shm::new(), LaneSizes::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut listener = shm.listen("@").unwrap();
    let mut dialled = shm.dial(&listener.address(), deadline).unwrap();
    let mut accepted = loop {
        if let Some(wire) = listener.accept().unwrap() {
            break wire;
        }
        assert!(Instant::now() < deadline, "nobody dialled");
    };
    let memory = dialled.receive_memory(&sizes).unwrap();
    let offer = dialled.offer(&memory).unwrap();
    dialled.send(b"with memory", deadline).unwrap();
    // All that are open stay open; there are no more.
    let limit = getrlimit(Resource::Nofile);
    let none_left = Rlimit {
        current: Some(3),
        ..limit
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let received = accepted.receive(deadline);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(received.unwrap(), b"with memory");
    let Err(LinkError::Device(missing)) = accepted.send_memory(&sizes, &offer) else {
        panic!("no word of the descriptors");
    };
    assert!(missing.contains("ulimit -n"), "{missing}");
}

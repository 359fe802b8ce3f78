//! The link over shared memory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use transport::link::{LinkError, Transport, TransportError};
use transport_rdma::Shm;

mod ends;

use ends::cases;
use ends::{End, accept, deadline, exchange, integrity};

fn shm() -> Shm {
    Shm::new()
}

#[test]
fn bytes_appear_at_the_same_positions_over_many_laps() {
    cases::bytes_appear_at_the_same_positions_over_many_laps(&shm(), "@", 300);
}

#[test]
fn two_processes_exchange_and_sleep() {
    cases::two_processes_exchange_and_sleep(&shm(), "@", "other_end_exchanges", 100);
}

#[test]
fn other_end_exchanges() {
    if let Some(mut end) = cases::other_end(|| Box::new(shm())) {
        exchange(&mut end, 100, true);
    }
}

#[test]
fn a_later_link_goes_on_where_the_session_was() {
    cases::a_later_link_goes_on_where_the_session_was(&shm(), "@", 20);
}

#[test]
fn a_sleeping_pair_loses_no_wake_up() {
    cases::a_sleeping_pair_loses_no_wake_up(&shm(), "@", "other_end_answers", 30_000);
}

#[test]
fn other_end_answers() {
    if let Some(mut end) = cases::other_end(|| Box::new(shm())) {
        cases::answer(&mut end, 30_000, false);
    }
}

#[test]
fn an_acknowledgement_wakes_a_sleeping_sender() {
    cases::an_acknowledgement_wakes_a_sleeping_sender(&shm(), "@");
}

#[test]
fn a_killed_peer_is_noticed_while_polling() {
    cases::a_killed_peer_is_noticed(&shm(), "@", "other_end_lives_until_killed", false);
}

#[test]
fn a_killed_peer_is_noticed_while_asleep() {
    cases::a_killed_peer_is_noticed(&shm(), "@", "other_end_lives_until_killed", true);
}

#[test]
fn other_end_lives_until_killed() {
    if let Some(mut end) = cases::other_end(|| Box::new(shm())) {
        cases::live_until_killed(&mut end);
    }
}

#[test]
fn an_idle_link_uses_no_cpu() {
    // Alone in its process, because what is measured is the process.
    if ends::spawned().is_some() {
        cases::an_idle_link_uses_no_cpu(&shm(), "@");
    } else {
        ends::join(ends::spawn("an_idle_link_uses_no_cpu", "alone"));
    }
}

#[test]
fn a_handshake_that_never_comes_ends_at_the_deadline() {
    cases::a_handshake_that_never_comes_ends_at_the_deadline(&shm(), "@");
}

#[test]
fn offers_of_garbage_are_refused() {
    cases::offers_of_garbage_are_refused(&shm(), "@");
}

#[test]
fn a_socket_file_is_made_used_and_removed() {
    let path = std::env::temp_dir().join(format!("shm-made-{}.sock", std::process::id()));
    let address = path.to_str().unwrap();
    let mut listener = shm().listen(address).unwrap();
    assert_eq!(listener.address(), address);
    let far = shm().dial(address, deadline()).unwrap();
    assert!(
        accept(&mut *listener)
            .peer()
            .contains(&std::process::id().to_string())
    );
    drop((listener, far));
    assert!(!path.exists());
}

#[test]
fn a_live_address_is_in_use_and_stays_with_its_listener() {
    let path = std::env::temp_dir().join(format!("shm-live-{}.sock", std::process::id()));
    let address = path.to_str().unwrap();
    let mut listener = shm().listen(address).unwrap();
    let refused = shm().listen(address).map(|_| ());
    assert!(
        matches!(refused, Err(TransportError::AddressInUse { .. })),
        "{refused:?}"
    );
    // The look at who is there was a connection, and does no harm.
    let _far = shm().dial(address, deadline()).unwrap();
    while let Some(wire) = listener.accept().unwrap() {
        drop(wire);
    }
    let name = format!("@live-{}", std::process::id());
    let _abstract = shm().listen(&name).unwrap();
    assert!(matches!(
        shm().listen(&name).map(|_| ()),
        Err(TransportError::AddressInUse { .. })
    ));
}

#[test]
fn the_socket_file_of_a_dead_process_is_replaced() {
    let path = std::env::temp_dir().join(format!("shm-stale-{}.sock", std::process::id()));
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file outlives its socket");
    let address = path.to_str().unwrap();
    let mut listener = shm().listen(address).unwrap();
    let _far = shm().dial(address, deadline()).unwrap();
    accept(&mut *listener);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let path = std::env::temp_dir().join(format!("shm-file-{}.txt", std::process::id()));
    std::fs::write(&path, "precious").unwrap();
    let refused = shm().listen(path.to_str().unwrap()).map(|_| ());
    assert!(
        matches!(refused, Err(TransportError::AddressInUse { .. })),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn nobody_there_is_unreachable_and_says_where() {
    for address in ["/nowhere/x.sock", "@nobody-listens-here"] {
        let error = shm().dial(address, deadline()).map(|_| ()).unwrap_err();
        assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(address));
    }
}

fn raw(address: &str) -> OwnedFd {
    let name = SocketAddrUnix::new_abstract_name(address.strip_prefix('@').unwrap().as_bytes()).unwrap();
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    connect(&socket, &name).unwrap();
    socket
}

#[test]
fn garbage_on_the_socket_is_a_protocol_error() {
    let mut listener = shm().listen("@").unwrap();
    for packet in [&b"?what"[..], &[b'm'; 5000], &[0xff; 60_000]] {
        let socket = raw(&listener.address());
        send(&socket, packet, SendFlags::empty()).unwrap();
        let error = accept(&mut *listener).receive(deadline()).unwrap_err();
        assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    }
}

#[test]
fn an_offer_without_memory_is_refused() {
    let mut listener = shm().listen("@").unwrap();
    let socket = raw(&listener.address());
    let mut wire = accept(&mut *listener);
    let receive = wire.receive_memory(&ends::SIZES).unwrap();
    let offer = wire.offer(&receive).unwrap();
    send(&socket, &[b"m", &offer[..]].concat(), SendFlags::empty()).unwrap();
    let offer = wire.receive(deadline()).unwrap();
    let error = wire.send_memory(&ends::SIZES, &offer).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("without its shared memory"), "{error}");
}

#[test]
fn a_session_that_began_elsewhere_is_refused_with_the_reason() {
    let mut listener = shm().listen("@").unwrap();
    let _far = shm().dial(&listener.address(), deadline()).unwrap();
    let mut wire = accept(&mut *listener);
    let elsewhere = transport::link::anonymous_lanes(&ends::SIZES).unwrap();
    let error = wire.offer(&elsewhere).unwrap_err();
    assert!(error.to_string().contains("began on it"), "{error}");
}

#[test]
fn a_flood_of_wake_ups_costs_nothing_but_wake_ups() {
    cases::in_two_threads(
        &shm(),
        "@",
        |mut end| {
            let descriptors = end.link.receiver.descriptors();
            let socket = descriptors[0].try_clone_to_owned().unwrap();
            drop(descriptors);
            // From the far end's view this is the peer ringing for no reason. It may take in what comes as soon as it comes, so that
            // there is always room for more.
            let rings = (0..100_000).take_while(|_| send(&socket, b"wwww", SendFlags::DONTWAIT).is_ok());
            assert!(rings.count() > 10);
            exchange(&mut end, 3, true);
            let _ = recv(&socket, &mut [0u8; 8][..], RecvFlags::DONTWAIT);
        },
        |mut end| exchange(&mut end, 3, true),
    );
}

#[test]
fn cells_that_a_peer_scribbled_on_are_no_credit() {
    let seen = ends::Meeting::default();
    cases::in_two_threads(
        &shm(),
        "@",
        |mut end| {
            // The peer's cells lie in the page before the rings that this side sends in.
            let until = deadline();
            while end.receive.credit[0] == 0 {
                assert!(Instant::now() < until, "nothing was scribbled");
                end.poll().unwrap();
            }
            assert_eq!(end.receive.credit[0], u64::MAX, "reported as it is");
            assert_eq!(end.send.rings[0].released(), 0, "and not believed");
            seen.wait();
        },
        |mut end| {
            end.send.acknowledge[0].store(u64::MAX, std::sync::atomic::Ordering::Release);
            end.push().unwrap();
            seen.wait();
        },
    );
}

#[test]
fn the_smallest_rings_work_as_well() {
    let sizes = transport::lane::LaneSizes {
        control: 4096,
        ordinary: 4096,
        large: 4096,
    };
    let mut listener = shm().listen("@").unwrap();
    let address = listener.address();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wire = shm().dial(&address, deadline()).unwrap();
            exchange(
                &mut End::with_sizes(wire, integrity(&shm()), &sizes).unwrap(),
                200,
                true,
            );
        });
        let wire = accept(&mut *listener);
        exchange(
            &mut End::with_sizes(wire, integrity(&shm()), &sizes).unwrap(),
            200,
            true,
        );
    });
}

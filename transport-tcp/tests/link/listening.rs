//! Listening and dialling: what goes wrong says so.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use transport::link::{LinkError, Transport, TransportError};
use transport_tcp::Tcp;

use crate::end::{accept, soon};

#[test]
fn an_address_in_use_says_so_and_is_free_again_afterwards() {
    let tcp = Tcp::new();
    let mut first = tcp.listen("127.0.0.1:0").unwrap();
    let address = first.address();
    match tcp.listen(&address) {
        Err(TransportError::AddressInUse { address: given }) => assert_eq!(given, address),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two listeners at {address}"),
    }
    // A connection that this side closed first lingers in the system, and must not hold the address.
    let dialled = tcp.dial(&address, soon()).unwrap();
    drop(accept(&mut *first));
    drop(first);
    tcp.listen(&address).unwrap();
    drop(dialled);
}

#[test]
fn an_address_that_is_none_or_not_ours_is_bad() {
    for address in [
        "nonsense",
        "127.0.0.1",
        "192.0.2.1:0",
        "no-such-name.invalid:7000",
    ] {
        let error = Tcp::new().listen(address).err().unwrap();
        assert!(
            matches!(error, TransportError::BadAddress { scheme: "tcp", .. }),
            "{error}"
        );
    }
    let error = Tcp::new().dial("127.0.0.1:0", soon()).err().unwrap();
    assert!(matches!(error, TransportError::BadAddress { .. }), "{error}");
}

#[test]
fn a_port_where_nobody_listens_is_unreachable() {
    let address = Tcp::new().listen("127.0.0.1:0").unwrap().address();
    let error = Tcp::new().dial(&address, soon()).err().unwrap();
    assert!(error.is_refusal(), "{error}");
    match error {
        TransportError::Unreachable { address: given, .. } => assert_eq!(given, address),
        other => panic!("{other}"),
    }
}

#[test]
fn dialling_ends_at_the_deadline() {
    let began = Instant::now();
    // A full backlog swallows what dials it, as a host that drops packets does.
    let swallows = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    swallows
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    swallows.listen(0).unwrap();
    let address = swallows.local_addr().unwrap().as_socket().unwrap().to_string();
    let mut kept = Vec::new();
    let error = loop {
        match Tcp::new().dial(&address, Instant::now() + Duration::from_millis(300)) {
            Ok(wire) => kept.push(wire),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
    assert!(!error.is_refusal(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn names_and_ipv6_are_dialled() {
    let tcp = Tcp::new();
    let mut listener = tcp.listen("localhost:0").unwrap();
    let port = listener.address().rsplit_once(':').unwrap().1.to_owned();
    let dialled = tcp.dial(&format!("localhost:{port}"), soon()).unwrap();
    let accepted = accept(&mut *listener);
    assert!(dialled.peer().ends_with(&port), "{}", dialled.peer());
    assert!(!accepted.peer().is_empty());
    match tcp.listen("[::1]:0") {
        Ok(mut listener) => {
            tcp.dial(&listener.address(), soon()).unwrap();
            accept(&mut *listener);
        }
        // A machine without IPv6 says so.
        Err(error) => eprintln!("without IPv6: {error}"),
    }
}

#[test]
fn garbage_at_the_port_breaks_nobody_else() {
    let tcp = Tcp::new();
    let mut listener = tcp.listen("127.0.0.1:0").unwrap();
    assert!(listener.accept().unwrap().is_none());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5_000], b""] {
        let mut stranger = TcpStream::connect(listener.address()).unwrap();
        stranger.write_all(garbage).unwrap();
        drop(stranger);
        let error = accept(&mut *listener).receive(soon()).unwrap_err();
        assert!(
            matches!(error, LinkError::Protocol(_) | LinkError::Closed),
            "{error}"
        );
    }
    let mut dialled = tcp.dial(&listener.address(), soon()).unwrap();
    let mut accepted = accept(&mut *listener);
    dialled.send(b"still here", soon()).unwrap();
    assert_eq!(accepted.receive(soon()).unwrap(), b"still here");
}

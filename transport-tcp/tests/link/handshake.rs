//! The handshake against peers that drip, flood, lie and leave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use transport::lane::LANES;
use transport::link::{LinkError, LinkMemory, MAX_HANDSHAKE, Transport, Wire, anonymous_lanes};
use transport_tcp::Tcp;

use crate::end::{End, SIZES, accept, soon, wires};

/// A wire, and a bare socket at its other end.
fn wire_and_stranger() -> (Box<dyn Wire>, TcpStream) {
    let mut listener = Tcp::new().listen("127.0.0.1:0").unwrap();
    let stranger = TcpStream::connect(listener.address()).unwrap();
    stranger.set_nodelay(true).unwrap();
    (accept(&mut *listener), stranger)
}

#[test]
fn messages_of_every_length_up_to_the_limit_arrive_whole() {
    let (mut one, mut other) = wires(&Tcp::new());
    for len in [0, 1, 2, 1_000, MAX_HANDSHAKE - 1, MAX_HANDSHAKE] {
        let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
        one.send(&message, soon()).unwrap();
        other.send(&message, soon()).unwrap();
        assert_eq!(other.receive(soon()).unwrap(), message);
        assert_eq!(one.receive(soon()).unwrap(), message);
    }
}

#[test]
fn a_message_over_the_limit_is_not_sent() {
    let (mut one, _other) = wires(&Tcp::new());
    let error = one.send(&[0; MAX_HANDSHAKE + 1], soon()).unwrap_err();
    assert!(error.to_string().contains("exceeds the limit of 4096"), "{error}");
}

#[test]
fn a_message_on_the_wire_is_its_length_and_its_bytes() {
    let (mut wire, mut stranger) = wire_and_stranger();
    wire.send(b"hello", soon()).unwrap();
    let mut bytes = [0; 9];
    stranger.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"\x05\0\0\0hello");
}

#[test]
fn a_length_over_the_limit_is_refused_at_once() {
    for length in [MAX_HANDSHAKE as u32 + 1, u32::MAX, u32::from_le_bytes(*b"GET ")] {
        let (mut wire, mut stranger) = wire_and_stranger();
        stranger.write_all(&length.to_le_bytes()).unwrap();
        let error = wire.receive(soon()).unwrap_err();
        assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    }
}

#[test]
fn a_peer_that_drips_a_byte_at_a_time_is_given_up_at_the_deadline() {
    let (mut wire, mut stranger) = wire_and_stranger();
    let dripping = std::thread::spawn(move || {
        let mut bytes = (MAX_HANDSHAKE as u32).to_le_bytes().to_vec();
        bytes.resize(100, 0);
        // Without end: given up at the deadline, or never.
        for byte in bytes.into_iter().cycle() {
            if stranger.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    let error = wire.receive(began + Duration::from_millis(300)).unwrap_err();
    let took = began.elapsed();
    assert!(matches!(error, LinkError::TimedOut), "{error}");
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(20),
        "{took:?}"
    );
    drop(wire);
    dripping.join().unwrap();
}

#[test]
fn a_peer_that_does_not_read_is_given_up_at_the_deadline() {
    let mut listener = Tcp::new()
        .send_buffer(1)
        .receive_buffer(1)
        .listen("127.0.0.1:0")
        .unwrap();
    let _stranger = TcpStream::connect(listener.address()).unwrap();
    let mut wire = accept(&mut *listener);
    let deadline = Instant::now() + Duration::from_millis(500);
    let error = loop {
        if let Err(error) = wire.send(&[0; MAX_HANDSHAKE], deadline) {
            break error;
        }
    };
    assert!(matches!(error, LinkError::TimedOut), "{error}");
}

#[test]
fn a_peer_that_leaves_has_closed() {
    for sent in [&b""[..], b"\x05\0", b"\x05\0\0\0hel"] {
        let (mut wire, mut stranger) = wire_and_stranger();
        stranger.write_all(sent).unwrap();
        drop(stranger);
        let error = wire.receive(soon()).unwrap_err();
        assert!(matches!(error, LinkError::Closed), "{error}");
    }
}

#[test]
fn nothing_behind_the_message_is_read() {
    let (mut wire, mut stranger) = wire_and_stranger();
    // The offer, and in the same segment the first span: a control frame of 16 bytes.
    let mut bytes = b"\x01\0\0\0\x01".to_vec();
    bytes.extend([0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    stranger.write_all(&bytes).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    wire.receive_memory(&SIZES).unwrap();
    let mut end = End::start(wire);
    end.wait_for_news();
    assert_eq!(end.receive.rings[0].arrived(), 16);
}

#[test]
fn garbage_instead_of_spans_is_a_protocol_violation() {
    let (wire, mut stranger) = wire_and_stranger();
    stranger
        .write_all(b"\x01\0\0\0\x01GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        .unwrap();
    let mut end = End::start(wire);
    let deadline = soon();
    let error = loop {
        match end.poll() {
            Ok(_) => assert!(Instant::now() < deadline),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LinkError::Protocol(_)), "{error}");
}

#[test]
fn an_offer_of_another_version_and_a_position_inside_a_frame_are_refused() {
    for (offer, from) in [(&[2][..], 0), (&[], 0), (&[1, 0], 0), (&[1], 8)] {
        let (one, _other) = wires(&Tcp::new());
        let memory = LinkMemory {
            send: anonymous_lanes(&SIZES).unwrap(),
            receive: anonymous_lanes(&SIZES).unwrap(),
        };
        let refused = one.link(&memory, offer, [from; LANES]);
        assert!(matches!(refused.err(), Some(LinkError::Protocol(_))));
    }
}

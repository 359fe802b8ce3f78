//! What peers send is decoded or refused, never more: control messages, handshakes of both sides, receive rings of
//! every kind. The corpus is in `corpus/`.
#![cfg(feature = "conformance")]

use transport::codec::Reader;
use transport::conformance::hostile_bytes;
use transport::control::Control;
use transport::frame::{Integrity, Kind};
use transport::handshake::{Answering, CAPABILITY_ENDS, Dialing, Identity, Secret, Terms, Wanted};
use transport::lane::{LANES, LaneSizes};
use transport::link::Ends;
use transport::memory::RingMemory;
use transport::ring::{Arrival, ReceiveRing, SendRing};

fn corpus(name: &str) -> String {
    format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn control_messages() {
    hostile_bytes(&corpus("control"), |bytes| {
        if let Ok(control) = Control::decode(bytes) {
            assert_eq!(Control::decode(&control.encode()), Ok(control));
        }
    });
}

fn identity(node: &str) -> Identity {
    Identity {
        cluster: "test".into(),
        node: node.into(),
        incarnation: 7,
        sizes: LaneSizes::default(),
        capabilities: CAPABILITY_ENDS,
    }
}

fn ends() -> Ends {
    Ends {
        own: "10.0.0.1:7000".into(),
        peer: "10.0.0.2:51000".into(),
    }
}

/// The corpus is of messages that a dialer and a listener with this secret and these nonces have said.
#[test]
fn handshake_messages_at_every_step() {
    let secret = Secret::new(b"a secret of sixteen bytes or more").unwrap();
    let terms = Terms {
        consumed: [0; LANES],
        offer: vec![1],
    };
    hostile_bytes(&corpus("handshake"), |bytes| {
        let dialer = || Dialing::start(&secret, &identity("a"), Wanted::New, &[1; _]);
        let (mut dialing, hello) = dialer();
        let mut listening = Answering::hello(&secret, &identity("b"), &hello).unwrap();
        let (_, welcome) = listening.welcome(1, 5, &[2; _]);
        let _ = Answering::hello(&secret, &identity("b"), bytes);
        let _ = listening.confirmed(bytes);
        let _ = dialer().0.welcomed(bytes);
        dialing.welcomed(&welcome).unwrap();
        let confirm = dialing.confirm(&terms);
        let _ = dialing.ready(bytes);
        let mut listening = Answering::hello(&secret, &identity("b"), &hello).unwrap();
        listening.welcome(1, 5, &[2; _]);
        if listening.confirmed(&confirm).is_ok() {
            listening.ready(&terms, Some(&ends()));
            let _ = listening.started(bytes);
        }
    });
}

/// Bytes at the start of a ring of 4 KiB, read to the end.
fn read(bytes: &[u8], integrity: Integrity, arrival: Arrival) {
    const CAPACITY: usize = 4096;
    let mut ring = ReceiveRing::new(RingMemory::anonymous(CAPACITY).unwrap(), integrity, arrival);
    let len = bytes.len().min(CAPACITY) & !7;
    let mut reader = Reader::new(&bytes[..len]);
    for offset in (0..len).step_by(8) {
        let word = reader.u64().unwrap();
        ring.memory()
            .word(offset)
            .store(word, std::sync::atomic::Ordering::Relaxed);
    }
    if arrival == Arrival::Counted {
        ring.advance(len);
    }
    let mut taken = 0;
    while let Ok(Some(frame)) = ring.peek() {
        let (extension, payload) = frame.parts();
        assert_eq!(extension.len() + payload.len(), frame.header.length as usize);
        let size = frame.header.size();
        assert!(size <= CAPACITY);
        taken += size;
        assert!(
            taken <= CAPACITY,
            "{taken} bytes of frames in a ring of {CAPACITY}"
        );
        ring.consume(size);
    }
}

#[test]
fn frames_in_rings() {
    hostile_bytes(&corpus("ring"), |bytes| {
        read(bytes, Integrity::None, Arrival::Counted);
        read(bytes, Integrity::None, Arrival::Published);
        read(bytes, Integrity::salted(1), Arrival::Checked);
        read(bytes, Integrity::salted(1), Arrival::Counted);
    });
}

/// Writes the corpus anew, where a message has changed.
#[test]
#[ignore = "writes into tests/corpus"]
fn write_the_corpus() {
    let secret = Secret::new(b"a secret of sixteen bytes or more").unwrap();
    let terms = Terms {
        consumed: [0, 4096, 8192],
        offer: vec![1; 80],
    };
    let (mut dialing, hello) = Dialing::start(&secret, &identity("a"), Wanted::Resume(9), &[1; _]);
    let mut listening = Answering::hello(&secret, &identity("b"), &hello).unwrap();
    let (_, welcome) = listening.welcome(1, 5, &[2; _]);
    dialing.welcomed(&welcome).unwrap();
    let confirm = dialing.confirm(&terms);
    listening.confirmed(&confirm).unwrap();
    let ready = listening.ready(&terms, Some(&ends()));
    dialing.ready(&ready).unwrap();
    let start = dialing.start_message();
    let refused = transport::handshake::refuse(transport::handshake::Refusal::Cluster);
    let messages = [
        ("hello", hello),
        ("welcome", welcome),
        ("confirm", confirm),
        ("ready", ready),
        ("start", start),
        ("refused", refused),
    ];
    for (name, message) in messages {
        std::fs::write(format!("{}/{name}", corpus("handshake")), message).unwrap();
    }
    for (name, integrity) in [("plain", Integrity::None), ("salted", Integrity::salted(1))] {
        let ring = SendRing::new(RingMemory::anonymous(4096).unwrap(), integrity);
        for (kind, len) in [
            (Kind::Message, 0),
            (Kind::Message, 100),
            (Kind::Control, 1),
            (Kind::Chunk, 40),
            (Kind::Padding, 20),
        ] {
            let mut claim = ring.claim(len).unwrap();
            claim.body().fill(len as u8);
            claim.commit(kind, 1, (len / 5) as u8, 7);
        }
        let bytes = ring.span(0, ring.committed(0, u64::MAX)).concat();
        std::fs::write(format!("{}/{name}", corpus("ring")), bytes).unwrap();
    }
}

//! Both sides of the handshake, face to face.

use super::*;
use crate::frame::golden::is_in_the_document;

fn secret() -> Secret {
    Secret::new(b"a secret of sixteen bytes or more").unwrap()
}

const NONCE_A: Nonce = [1; NONCE];
const NONCE_B: Nonce = [2; NONCE];

fn terms(offer: &[u8], consumed: [Position; LANES]) -> Terms {
    Terms {
        consumed,
        offer: offer.to_vec(),
    }
}

fn identity(node: &str) -> Identity {
    Identity {
        cluster: "test".into(),
        node: node.into(),
        incarnation: 7,
        sizes: LaneSizes::default(),
        capabilities: 0,
    }
}

#[test]
fn both_sides_agree_and_learn_each_others_offer() {
    let resume = Wanted::Resume(99);
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), resume, &NONCE_A);
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    assert_eq!((listener.peer(), listener.wanted()), (&identity("a"), resume));
    let (theirs, welcome) = listener.welcome(99, 5, &NONCE_B);
    let ours = dialer.welcomed(&welcome).unwrap();
    assert_eq!((ours.session, ours.salt, ours.version), (99, 5, VERSION));
    assert_eq!((theirs.session, theirs.salt, theirs.version), (99, 5, VERSION));
    assert_eq!(ours.peer, identity("b"));
    let from_dialer = terms(b"from dialer", [1, 2, 3]);
    assert_eq!(listener.confirmed(&dialer.confirm(&from_dialer)), Ok(from_dialer));
    let from_listener = terms(b"from listener", [4, 5, 6]);
    let ready = listener.ready(&from_listener, None);
    assert_eq!(dialer.ready(&ready), Ok((from_listener, None)));
    listener.started(&dialer.start_message()).unwrap();
}

#[test]
fn a_dialer_without_the_secret_is_found_out_at_its_proof_and_a_listener_at_its_welcome() {
    let wrong = Secret::new(b"another secret, also long enough").unwrap();
    let (mut dialer, hello) = Dialing::start(&wrong, &identity("a"), Wanted::New, &NONCE_A);
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = listener.welcome(1, 1, &NONCE_B);
    assert_eq!(dialer.welcomed(&welcome), Err(HandshakeError::WrongSecret));
    assert_eq!(
        listener.confirmed(&dialer.confirm(&terms(b"", [0; LANES]))),
        Err(HandshakeError::WrongSecret)
    );
}

#[test]
fn a_replayed_dialer_fails_against_a_fresh_nonce() {
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    let mut first = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = first.welcome(1, 1, &NONCE_B);
    dialer.welcomed(&welcome).unwrap();
    let confirm = dialer.confirm(&terms(b"offer", [0; LANES]));
    first.confirmed(&confirm).unwrap();
    let mut second = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    second.welcome(1, 1, &[3; NONCE]);
    assert_eq!(second.confirmed(&confirm), Err(HandshakeError::WrongSecret));
}

#[test]
fn a_reflected_proof_fails() {
    let (_, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = listener.welcome(1, 1, &NONCE_B);
    assert_eq!(listener.confirmed(&welcome), Err(HandshakeError::WrongSecret));
}

#[test]
fn a_changed_offer_fails_its_proof() {
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    dialer.welcomed(&listener.welcome(1, 1, &NONCE_B).1).unwrap();
    let mut confirm = dialer.confirm(&terms(b"offer", [0; LANES]));
    let first_of_the_offer = 1 + 24 + 2;
    confirm[first_of_the_offer] ^= 1;
    assert_eq!(listener.confirmed(&confirm), Err(HandshakeError::WrongSecret));
}

#[test]
fn another_cluster_another_version_and_absurd_rings_are_refused_in_words() {
    let refusal = |change: &dyn Fn(&mut Identity)| {
        let mut other = identity("a");
        change(&mut other);
        let (_, hello) = Dialing::start(&secret(), &other, Wanted::New, &NONCE_A);
        Answering::hello(&secret(), &identity("b"), &hello).err()
    };
    assert_eq!(
        refusal(&|i| i.cluster = "else".into()),
        Some(HandshakeError::Refusing(Refusal::Cluster))
    );
    assert_eq!(
        refusal(&|i| i.sizes.ordinary = 5000),
        Some(HandshakeError::Refusing(Refusal::RingSizes))
    );
    assert_eq!(refusal(&|_| ()), None);
    let (_, mut hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    hello[5..9].copy_from_slice(&[9, 0, 9, 0]);
    let error = Answering::hello(&secret(), &identity("b"), &hello).err();
    assert_eq!(
        error,
        Some(HandshakeError::Refusing(Refusal::Version {
            oldest: OLDEST_VERSION,
            newest: VERSION
        }))
    );
    let (mut dialer, _) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    assert_eq!(
        dialer.welcomed(&refuse(Refusal::Busy)),
        Err(HandshakeError::Refused(Refusal::Busy))
    );
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_hello_is_an_error_or_another_hello_but_never_a_panic() {
    let (_, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    for len in 0..hello.len() {
        assert!(Answering::hello(&secret(), &identity("b"), &hello[..len]).is_err());
    }
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 0xff;
        let _ = Answering::hello(&secret(), &identity("b"), &changed);
    }
    assert!(matches!(
        Answering::hello(&secret(), &identity("b"), b"GET / HTTP/1.1\r\n\r\n"),
        Err(HandshakeError::NotThisProtocol { .. })
    ));
}

#[test]
fn a_whole_handshake_is_the_golden_bytes_of_the_document() {
    let dials = identity("a");
    let listens = Identity {
        incarnation: 9,
        capabilities: CAPABILITY_CHECKSUMS,
        ..identity("b")
    };
    let (session, salt) = (0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100, 0x0102_0304_0506_0708);

    let counting = |first: u8| std::array::from_fn(|at| first + at as u8);
    let (mut dialer, hello) = Dialing::start(&secret(), &dials, Wanted::New, &counting(0));
    let mut listener = Answering::hello(&secret(), &listens, &hello).unwrap();
    let welcome = listener.welcome(session, salt, &counting(32)).1;

    let agreement = dialer.welcomed(&welcome).unwrap();
    assert_eq!((agreement.session, agreement.salt), (session, salt));
    assert!(agreement.checksums && agreement.peer == listens);
    let nothing = terms(&[1], [0; LANES]);
    let confirm = dialer.confirm(&nothing);
    assert_eq!(listener.confirmed(&confirm), Ok(nothing.clone()));
    let ready = listener.ready(&nothing, None);
    assert_eq!(dialer.ready(&ready), Ok((nothing, None)));
    let start = dialer.start_message();
    listener.started(&start).unwrap();

    let messages = [hello, welcome, confirm, ready, start];
    for (message, name) in messages
        .iter()
        .zip(["Hello", "Welcome", "Confirm", "Ready", "Start"])
    {
        assert!(is_in_the_document(message), "{name}: {message:02x?}");
    }
}

#[test]
fn the_ends_of_the_connection_are_told_to_who_reads_them_by_who_tells_them() {
    let ends = Ends {
        own: "10.0.0.1:7000".into(),
        peer: "10.0.0.2:51000".into(),
    };
    let told = |dials, listens, ends: Option<&Ends>| {
        let with = |node, capabilities| Identity {
            capabilities,
            ..identity(node)
        };
        let dials = with("a", dials);
        let (mut dialer, hello) = Dialing::start(&secret(), &dials, Wanted::New, &NONCE_A);
        let mut listener = Answering::hello(&secret(), &with("b", listens), &hello).unwrap();
        dialer.welcomed(&listener.welcome(1, 1, &NONCE_B).1).unwrap();
        let terms = terms(b"offer", [0; LANES]);
        listener.confirmed(&dialer.confirm(&terms)).unwrap();
        let ready = listener.ready(&terms, ends);
        let (theirs, told) = dialer.ready(&ready).unwrap();
        assert_eq!(theirs, terms);
        (ready, told)
    };
    let (ready, both) = told(CAPABILITY_ENDS, CAPABILITY_ENDS, Some(&ends));
    assert_eq!(both.as_ref(), Some(&ends));
    let (after_the_offer, before_the_proof) = (1 + 24 + 2 + 5, ready.len() - 32);
    let fields = &ready[after_the_offer..before_the_proof];
    assert!(is_in_the_document(fields), "{fields:02x?}");
    assert_eq!(told(CAPABILITY_ENDS, CAPABILITY_ENDS, None).1, None);
    assert_eq!(told(0, CAPABILITY_ENDS, Some(&ends)).1, None);
    assert_eq!(told(CAPABILITY_ENDS, 0, Some(&ends)).1, None);
}

#[test]
fn every_refusal_is_its_golden_bytes_and_is_understood() {
    let golden: [(Refusal, &[u8]); 9] = [
        (Refusal::Version { oldest: 2, newest: 5 }, &[3, 1, 2, 0, 5, 0]),
        (Refusal::Cluster, &[3, 2]),
        (Refusal::Secret, &[3, 3]),
        (Refusal::UnknownSession, &[3, 4]),
        (Refusal::Busy, &[3, 5]),
        (Refusal::RingSizes, &[3, 6]),
        (Refusal::Malformed, &[3, 7]),
        (Refusal::Capabilities { unknown: 1 << 31 }, &[3, 8, 0, 0, 0, 128]),
        (Refusal::Crowded, &[3, 9]),
    ];
    for (reason, bytes) in golden {
        assert_eq!(refuse(reason), bytes);
        assert!(is_in_the_document(bytes), "{bytes:02x?}");
        let (mut dialer, _) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
        assert_eq!(dialer.welcomed(bytes), Err(HandshakeError::Refused(reason)));
        let more = [bytes, &[0]].concat();
        assert_eq!(dialer.welcomed(&more), Err(HandshakeError::Refused(reason)));
    }
}

#[test]
fn versions_meet_where_both_speak_one_and_are_refused_with_both_ranges_where_they_do_not() {
    let (_, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &NONCE_A);
    let says = |oldest: u16, newest: u16| {
        let mut hello = hello.clone();
        hello[5..7].copy_from_slice(&oldest.to_le_bytes());
        hello[7..9].copy_from_slice(&newest.to_le_bytes());
        let mut listener = Answering::hello(&secret(), &identity("b"), &hello)?;
        Ok(listener.welcome(1, 1, &NONCE_B).0.version)
    };
    let refused = Err(HandshakeError::Refusing(Refusal::Version {
        oldest: OLDEST_VERSION,
        newest: VERSION,
    }));
    assert_eq!(says(0, u16::MAX), Ok(VERSION));
    assert_eq!(says(OLDEST_VERSION, VERSION + 1), Ok(VERSION));
    assert_eq!(says(VERSION + 1, VERSION + 2), refused);
    assert_eq!(says(0, OLDEST_VERSION - 1), refused);
    assert_eq!(says(2, 1), refused);
}

#[test]
fn capabilities_that_must_be_known_and_are_not_are_refused_by_either_side_and_others_ignored() {
    let with = |node, capabilities| Identity {
        capabilities,
        ..identity(node)
    };
    let unknown = 1 << 20;
    let refused = Some(HandshakeError::Refusing(Refusal::Capabilities { unknown }));
    let (_, hello) = Dialing::start(&secret(), &with("a", unknown | 1 << 9), Wanted::New, &NONCE_A);
    assert_eq!(Answering::hello(&secret(), &identity("b"), &hello).err(), refused);
    let (mut dialer, hello) = Dialing::start(&secret(), &with("a", 1 << 9), Wanted::New, &NONCE_A);
    let mut listener = Answering::hello(&secret(), &with("b", unknown), &hello).unwrap();
    let welcome = listener.welcome(1, 1, &NONCE_B).1;
    assert_eq!(dialer.welcomed(&welcome).err(), refused);
}

#[test]
fn a_message_of_one_handshake_fails_in_the_place_of_any_other() {
    let talk = |nonce_a: &Nonce, nonce_b: &Nonce| {
        let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, nonce_a);
        let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
        let welcome = listener.welcome(1, 1, nonce_b).1;
        dialer.welcomed(&welcome).unwrap();
        let confirm = dialer.confirm(&terms(b"d", [0; LANES]));
        listener.confirmed(&confirm).unwrap();
        let ready = listener.ready(&terms(b"l", [0; LANES]), None);
        dialer.ready(&ready).unwrap();
        [hello, welcome, confirm, ready, dialer.start_message()]
    };
    let recorded = [
        talk(&NONCE_A, &NONCE_B),
        talk(&NONCE_A, &[3; NONCE]),
        talk(&[4; NONCE], &NONCE_B),
    ]
    .concat();
    for message in &recorded {
        // Nonces that no recorded handshake had.
        let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &[5; NONCE]);
        let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
        let welcome = listener.welcome(1, 1, &[6; NONCE]).1;
        assert!(dialer.welcomed(message).is_err());
        let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New, &[5; NONCE]);
        assert_eq!(hello.len(), recorded[0].len());
        dialer.welcomed(&welcome).unwrap();
        assert!(listener.confirmed(message).is_err());
        assert!(dialer.ready(message).is_err());
        assert!(listener.started(message).is_err());
    }
}

//! Both sides of the handshake, face to face.

use super::*;
use crate::frame::golden::is_in_the_document;

fn secret() -> Secret {
    Secret::new(b"a secret of sixteen bytes or more").unwrap()
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
    let resume = Wanted::Resume {
        session: 99,
        consumed: [1, 2, 3],
    };
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), resume).unwrap();
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    assert_eq!((listener.peer(), listener.wanted()), (&identity("a"), resume));
    let (theirs, welcome) = listener.welcome(99, 5).unwrap();
    let ours = dialer.welcomed(&welcome).unwrap();
    assert_eq!((ours.session, ours.salt), (99, 5));
    assert_eq!(
        (theirs.session, theirs.salt, theirs.peer_consumed),
        (99, 5, [1, 2, 3])
    );
    assert_eq!(ours.peer, identity("b"));
    assert_eq!(
        listener.confirmed(&dialer.confirm(b"from dialer")).unwrap(),
        b"from dialer"
    );
    let ready = listener.ready(b"from listener", &[4, 5, 6]);
    assert_eq!(
        dialer.ready(&ready).unwrap(),
        (b"from listener".to_vec(), [4, 5, 6])
    );
    listener.started(&dialer.start_message()).unwrap();
}

#[test]
fn a_dialer_without_the_secret_is_found_out_at_its_proof_and_a_listener_at_its_welcome() {
    let wrong = Secret::new(b"another secret, also long enough").unwrap();
    let (mut dialer, hello) = Dialing::start(&wrong, &identity("a"), Wanted::New).unwrap();
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = listener.welcome(1, 1).unwrap();
    assert_eq!(dialer.welcomed(&welcome), Err(HandshakeError::WrongSecret));
    assert_eq!(
        listener.confirmed(&dialer.confirm(b"")),
        Err(HandshakeError::WrongSecret)
    );
}

#[test]
fn a_replayed_dialer_fails_against_a_fresh_nonce() {
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
    let mut first = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = first.welcome(1, 1).unwrap();
    dialer.welcomed(&welcome).unwrap();
    let confirm = dialer.confirm(b"offer");
    first.confirmed(&confirm).unwrap();
    let mut second = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    second.welcome(1, 1).unwrap();
    assert_eq!(second.confirmed(&confirm), Err(HandshakeError::WrongSecret));
}

#[test]
fn a_reflected_proof_fails() {
    let (_, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    let (_, welcome) = listener.welcome(1, 1).unwrap();
    assert_eq!(listener.confirmed(&welcome), Err(HandshakeError::WrongSecret));
}

#[test]
fn a_changed_offer_fails_its_proof() {
    let (mut dialer, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
    let mut listener = Answering::hello(&secret(), &identity("b"), &hello).unwrap();
    dialer.welcomed(&listener.welcome(1, 1).unwrap().1).unwrap();
    let mut confirm = dialer.confirm(b"offer");
    confirm[4] ^= 1;
    assert_eq!(listener.confirmed(&confirm), Err(HandshakeError::WrongSecret));
}

#[test]
fn another_cluster_another_version_and_absurd_rings_are_refused_in_words() {
    let refusal = |change: &dyn Fn(&mut Identity)| {
        let mut other = identity("a");
        change(&mut other);
        let (_, hello) = Dialing::start(&secret(), &other, Wanted::New).unwrap();
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
    let (_, mut hello) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
    hello[5..9].copy_from_slice(&[9, 0, 9, 0]);
    let error = Answering::hello(&secret(), &identity("b"), &hello).err();
    assert_eq!(error, Some(HandshakeError::Refusing(Refusal::Version)));
    let (mut dialer, _) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
    assert_eq!(
        dialer.welcomed(&refuse(Refusal::Busy)),
        Err(HandshakeError::Refused(Refusal::Busy))
    );
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_hello_is_an_error_or_another_hello_but_never_a_panic() {
    let (_, hello) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
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

/// `bytes` with the nonce that starts at `at` replaced by the numbers from `first` on.
fn with_nonce(mut bytes: Vec<u8>, at: usize, first: u8) -> Vec<u8> {
    for (number, byte) in (first..).zip(&mut bytes[at..at + NONCE]) {
        *byte = number;
    }
    bytes
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

    // Nonces are random, so both sides are put where they would be after these.
    let (mut dialer, hello) = Dialing::start(&secret(), &dials, Wanted::New).unwrap();
    let hello = with_nonce(hello, 28, 0);
    dialer.transcript = Transcript::new(&secret());
    dialer.transcript.absorb(&hello);
    let mut listener = Answering::hello(&secret(), &listens, &hello).unwrap();
    let mut content = listener.welcome(session, salt).unwrap().1;
    content.truncate(content.len() - PROOF);
    listener.transcript = Transcript::new(&secret());
    listener.transcript.absorb(&hello);
    let welcome = listener.transcript.seal(BY_LISTENER, with_nonce(content, 17, 32));

    let agreement = dialer.welcomed(&welcome).unwrap();
    assert_eq!((agreement.session, agreement.salt), (session, salt));
    assert!(agreement.checksums && agreement.peer == listens);
    let confirm = dialer.confirm(&[1]);
    assert_eq!(listener.confirmed(&confirm).unwrap(), [1]);
    let ready = listener.ready(&[1], &[0; LANES]);
    assert_eq!(dialer.ready(&ready).unwrap(), (vec![1], [0; LANES]));
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
fn every_refusal_is_its_golden_bytes_and_is_understood() {
    let reasons = [
        Refusal::Version,
        Refusal::Cluster,
        Refusal::Secret,
        Refusal::UnknownSession,
        Refusal::Busy,
        Refusal::RingSizes,
        Refusal::Malformed,
    ];
    for (number, reason) in (1..).zip(reasons) {
        assert_eq!(refuse(reason), [3, number]);
        let (mut dialer, _) = Dialing::start(&secret(), &identity("a"), Wanted::New).unwrap();
        assert_eq!(
            dialer.welcomed(&[3, number]),
            Err(HandshakeError::Refused(reason))
        );
    }
}

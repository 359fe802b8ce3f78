//! The transport against the words of the trait: order, batches, acknowledged ends, limits, what a lost connection is.

use std::net::SocketAddr;
use std::time::Duration;

use tellus::cluster::transport::{Connection, FrameReceiver, FrameSender, Transport, TransportError};
use tellus_transport::{RingConnection, RingFrameReceiver, RingFrameSender, RingTransport};
use tests::over::Over;

const MAX_FRAME: usize = 1 << 20;

struct Pair {
    dialler: RingConnection,
    control: (RingFrameSender, RingFrameReceiver),
    acceptor: RingConnection,
    far_control: (RingFrameSender, RingFrameReceiver),
    _transports: (RingTransport, RingTransport),
}

async fn pair(over: Over) -> Pair {
    let listen = over.free_address();
    let b = over.builder("b").listen(&listen).start_on_tokio().unwrap();
    let at = b.addresses()[0].clone();
    let b = RingTransport::new(b, over.name()).unwrap();
    let a = over.builder("a").start_on_tokio().unwrap();
    let a = RingTransport::dialling(a, move |_| vec![at.clone()]).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let (connected, acceptor) = tokio::join!(a.connect(anywhere, MAX_FRAME), b.accept(MAX_FRAME));
    let (connected, acceptor) = (connected.unwrap(), acceptor.unwrap());
    let far_control = acceptor.accept_control().await.unwrap();
    Pair {
        dialler: connected.connection,
        control: (connected.control_tx, connected.control_rx),
        acceptor,
        far_control,
        _transports: (a, b),
    }
}

async fn frames_arrive_in_order_on_every_stream_and_the_end_is_acknowledged(over: Over) {
    let mut pair = pair(over).await;
    // Control, both ways.
    pair.control.0.send(b"greeting").await.unwrap();
    assert_eq!(pair.far_control.1.recv().await.unwrap(), Some(&b"greeting"[..]));
    pair.far_control.0.send(&[]).await.unwrap();
    assert_eq!(pair.control.1.recv().await.unwrap(), Some(&b""[..]));
    // Data, from both sides of the connection.
    for (opener, taker) in [(&pair.dialler, &pair.acceptor), (&pair.acceptor, &pair.dialler)] {
        for _ in 0..3 {
            let (opened, taken) = tokio::join!(opener.open_data(), taker.accept_data());
            let (mut sender, mut receiver) = (opened.unwrap(), taken.unwrap().expect("a stream"));
            let sending = tokio::spawn(async move {
                sender.send(&vec![1; MAX_FRAME]).await.unwrap();
                let batch: Vec<Vec<u8>> = (0..1_000u16).map(|at| at.to_le_bytes().to_vec()).collect();
                sender.send_batch(&batch).await.unwrap();
                sender.finish().await.unwrap();
            });
            assert_eq!(receiver.recv().await.unwrap().map(<[u8]>::len), Some(MAX_FRAME));
            for at in 0..1_000u16 {
                assert_eq!(receiver.recv().await.unwrap(), Some(&at.to_le_bytes()[..]));
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
            sending.await.unwrap();
        }
    }
}

#[tokio::test]
async fn frames_arrive_in_order_on_every_stream_and_the_end_is_acknowledged_over_tcp() {
    frames_arrive_in_order_on_every_stream_and_the_end_is_acknowledged(Over::Tcp).await;
}

#[tokio::test]
async fn frames_arrive_in_order_on_every_stream_and_the_end_is_acknowledged_over_shm() {
    frames_arrive_in_order_on_every_stream_and_the_end_is_acknowledged(Over::Shm).await;
}

#[tokio::test]
async fn an_end_is_not_acknowledged_before_the_frames_have_been_taken() {
    let pair = pair(Over::Tcp).await;
    let (opened, taken) = tokio::join!(pair.dialler.open_data(), pair.acceptor.accept_data());
    let (mut sender, mut receiver) = (opened.unwrap(), taken.unwrap().unwrap());
    sender.send(b"not taken yet").await.unwrap();
    let short = Duration::from_millis(100);
    assert!(tokio::time::timeout(short, sender.finish()).await.is_err());
    let (finished, ()) = tokio::join!(sender.finish(), async {
        while receiver.recv().await.unwrap().is_some() {}
    });
    finished.unwrap();
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_a_violation_of_the_peer() {
    let mut pair = pair(Over::Tcp).await;
    let sending = tokio::spawn(async move {
        let _ = pair.control.0.send(&vec![0; MAX_FRAME + 1]).await;
        pair.control
    });
    let refused = pair.far_control.1.recv().await;
    assert!(
        matches!(refused, Err(TransportError::FrameTooLarge { max: MAX_FRAME, .. })),
        "{refused:?}"
    );
    drop(pair.far_control);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_dropped_ends_at_the_other_side() {
    let mut pair = pair(Over::Tcp).await;
    drop((pair.dialler, pair.control));
    let over = tokio::time::timeout(Duration::from_secs(10), pair.far_control.1.recv()).await;
    assert!(over.expect("in time").is_err(), "broken off without an end");
    let data = tokio::time::timeout(Duration::from_secs(10), pair.acceptor.accept_data()).await;
    assert!(data.expect("in time").unwrap().is_none());
}

//! Streams of frames.

use tests::over::Over;
use transport::stream::{IncomingKind, StreamError};

use crate::{Pair, pattern, soon};

async fn frames_of_all_sizes_on_several_streams(over: Over) {
    let mut pair = Pair::over(over).await;
    let sizes = [0, 1, 64, 1_024, 65_534, 65_535, 70_000, 1 << 20];
    let mut sending = Vec::new();
    let mut receiving = Vec::new();
    for number in 0..8usize {
        let (writer, receiver) = tokio::join!(pair.to_b.open_sender("echo"), async {
            let incoming = pair.listener.accept().await.unwrap();
            assert_eq!(incoming.kind(), IncomingKind::OneWay);
            incoming.accept_receiver().unwrap()
        });
        let (mut frames, mut receiver) = (writer.unwrap().framed(), receiver.framed(1 << 20));
        sending.push(tokio::spawn(async move {
            for round in 0..3 {
                for size in sizes {
                    frames.send(&pattern(number + round, size)).await.unwrap();
                }
                let batch: Vec<Vec<u8>> = (0..500).map(|at| pattern(at, 64)).collect();
                frames.send_batch(&batch).await.unwrap();
            }
            frames.finish().await.unwrap();
        }));
        receiving.push(tokio::spawn(async move {
            for round in 0..3 {
                for size in sizes {
                    let frame = receiver.recv().await.unwrap().expect("a frame");
                    assert!(
                        frame == pattern(number + round, size),
                        "stream {number}, {size} bytes"
                    );
                }
                for at in 0..500 {
                    assert_eq!(receiver.recv().await.unwrap().expect("a frame"), pattern(at, 64));
                }
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
            assert_eq!(receiver.recv().await.unwrap(), None, "and so it stays");
        }));
    }
    for task in sending.into_iter().chain(receiving) {
        soon("a stream", task).await.unwrap();
    }
    assert_eq!(pair.a.dead_letters().count() + pair.b.dead_letters().count(), 0);
}

#[tokio::test]
async fn frames_of_all_sizes_on_several_streams_over_tcp() {
    frames_of_all_sizes_on_several_streams(Over::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_all_sizes_on_several_streams_over_shm() {
    frames_of_all_sizes_on_several_streams(Over::Shm).await;
}

#[cfg(feature = "verbs")]
#[tokio::test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
async fn frames_of_all_sizes_on_several_streams_over_rdma() {
    frames_of_all_sizes_on_several_streams(Over::Rdma).await;
}

#[tokio::test]
async fn a_frame_longer_than_allowed_is_refused_with_its_stream() {
    let mut pair = Pair::over(Over::Shm).await;
    let (here, there) = pair.stream().await;
    let (mut sender, _) = here.framed(100);
    let (_, mut receiver) = there.framed(200_000);
    let sending = tokio::spawn(async move { sender.send(&vec![7; 200_001]).await });
    let error = soon("a refusal", receiver.recv()).await.unwrap_err();
    assert_eq!(error, StreamError::FrameTooLong { max: 200_000 });
    assert_eq!(receiver.recv().await.unwrap_err(), error, "and so it stays");
    let _ = sending.await.unwrap();
}

//! Bytes there and back, beside other things that use the node.

use std::time::Duration;

use tests::over::Over;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transport::stream::{Stream, StreamOptions};
use transport::{MailboxOptions, Wait};

use crate::{PATIENCE, PATIENT, Pair, pattern, soon};

async fn bytes_of_all_sizes_come_back(over: Over) {
    let mut pair = Pair::over(over).await;
    let (stream, echo) = pair.stream().await;
    let echoing = tokio::spawn(async move {
        let (mut writer, mut reader) = echo.split();
        let copied = tokio::io::copy_buf(&mut reader, &mut writer).await.unwrap();
        writer.finish().await.unwrap();
        copied
    });
    let (mut writer, mut reader) = stream.split();
    let sizes = [1, 7, 8, 100, 4_096, 65_535, 65_536, 65_537, 1 << 20, 3, 300_000];
    let total: usize = sizes.iter().sum();
    let writing = tokio::spawn(async move {
        let mut at = 0;
        for size in sizes {
            writer.write_all(&pattern(at, size)).await.unwrap();
            at += size;
        }
        writer.acknowledged().await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut back = Vec::new();
    // As a cluster runtime reads: a length, then what follows it.
    let mut small = [0; 8];
    soon("eight bytes", reader.read_exact(&mut small)).await.unwrap();
    back.extend_from_slice(&small);
    soon("the rest", reader.read_to_end(&mut back)).await.unwrap();
    assert!(back == pattern(0, total), "{} of {total} bytes", back.len());
    assert_eq!(soon("the echo's end", echoing).await.unwrap(), total as u64);
    drop(writing.await.unwrap());
    assert_eq!(pair.a.dead_letters().count() + pair.b.dead_letters().count(), 0);
}

#[tokio::test]
async fn bytes_of_all_sizes_come_back_over_tcp() {
    bytes_of_all_sizes_come_back(Over::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_all_sizes_come_back_over_shm() {
    bytes_of_all_sizes_come_back(Over::Shm).await;
}

#[cfg(feature = "verbs")]
#[tokio::test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
async fn bytes_of_all_sizes_come_back_over_rdma() {
    bytes_of_all_sizes_come_back(Over::Rdma).await;
}

/// Sends back what comes.
fn echoing(echo: Stream) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let (mut writer, mut reader) = echo.split();
        // Until the other side is dropped.
        let _ = tokio::io::copy_buf(&mut reader, &mut writer).await;
    })
}

async fn a_thread_that_blocks_and_tasks_that_wait_share_a_node(over: Over) {
    const MESSAGES: u8 = 20;
    let mut pair = Pair::over(over).await;
    let mut mailbox = pair.a.mailbox("thread", MailboxOptions::default()).unwrap();
    let (stream, echo) = pair.stream().await;
    // Who accepts a session hears of it a little later than who dials.
    let to_a = async {
        loop {
            match pair.b.peers().pop() {
                Some(peer) => break peer,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let to_a = soon("the session", to_a).await;
    let to_a = soon("an address", to_a.address_async("thread")).await.unwrap();
    let echo = echoing(echo);
    let (mut writer, mut reader) = stream.split();
    let mut exchange = async |count: usize| {
        for at in 0..count {
            let (sent, mut back) = (pattern(at, 100), [0; 100]);
            writer.write_all(&sent).await.unwrap();
            soon("an echo", reader.read_exact(&mut back)).await.unwrap();
            assert_eq!(back[..], sent);
        }
    };
    exchange(100).await;
    let receiving = tokio::task::spawn_blocking(move || {
        for number in 0..MESSAGES {
            let message = mailbox.recv_timeout(PATIENCE).unwrap().expect("not in time");
            assert_eq!(message.payload, [number]);
        }
    });
    for number in 0..MESSAGES {
        to_a.try_send(&[number]).unwrap();
        exchange(10).await;
    }
    soon("all messages", receiving).await.unwrap();
    exchange(100).await;
    drop((writer, reader));
    echo.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_blocks_and_tasks_that_wait_share_a_node_over_tcp() {
    a_thread_that_blocks_and_tasks_that_wait_share_a_node(Over::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_blocks_and_tasks_that_wait_share_a_node_over_shm() {
    a_thread_that_blocks_and_tasks_that_wait_share_a_node(Over::Shm).await;
}

#[tokio::test]
async fn a_node_on_tokio_hears_more_peers_than_the_runtime_tells_of() {
    let mut nodes = Vec::new();
    let a = Over::Tcp
        .builder("a")
        .timing(PATIENT)
        .wait(Wait::Park)
        .start_on_tokio()
        .unwrap();
    let mut streams = Vec::new();
    for number in 0..4 {
        let name = format!("b{number}");
        let listen = Over::Tcp.free_address();
        let b = Over::Tcp
            .builder(&name)
            .timing(PATIENT)
            .listen(&listen)
            .start()
            .unwrap();
        let mut listener = b.listen_streams("echo", StreamOptions::default()).unwrap();
        let peer = a.connect_async(&b.addresses()[0]).await.unwrap();
        let options = StreamOptions::default();
        let (opened, accepted) = tokio::join!(peer.open_stream("echo", options), listener.accept_stream());
        streams.push((opened.unwrap().split(), echoing(accepted.unwrap())));
        nodes.push((b, listener));
        // Those from before, too: of the first two the runtime tells, then the poller does of all.
        for ((writer, reader), _) in &mut streams {
            for at in 0..20 {
                let (sent, mut back) = (pattern(at, 50), [0; 50]);
                writer.write_all(&sent).await.unwrap();
                soon("an echo", reader.read_exact(&mut back)).await.unwrap();
                assert_eq!(back[..], sent);
            }
        }
    }
    for (halves, echo) in streams {
        drop(halves);
        echo.abort();
    }
}

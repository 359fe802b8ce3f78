//! What each half sees of the other, and of the link.

use std::time::Duration;

use tests::over::Over;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::stream::{OpenError, StreamError, StreamOptions};

use crate::{Pair, pattern, soon};

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let mut pair = Pair::over(Over::Tcp).await;
    let (here, there) = pair.stream().await;
    let ((mut writer, mut reader), (mut far_writer, mut far_reader)) = (here.split(), there.split());
    writer.write_all(b"question").await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    let mut question = String::new();
    soon("the end", far_reader.read_to_string(&mut question))
        .await
        .unwrap();
    assert_eq!(question, "question");
    far_writer.write_all(b"answer").await.unwrap();
    let (finished, answer) = tokio::join!(far_writer.finish(), async {
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        answer
    });
    finished.unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(
        far_writer.write(b"more").await,
        Err(StreamError::Finished),
        "after the end"
    );
}

#[tokio::test]
async fn acknowledged_means_taken_by_the_reader_and_no_earlier() {
    let mut pair = Pair::over(Over::Tcp).await;
    let (mut here, mut there) = pair.stream().await;
    here.write_all(b"four").await.unwrap();
    here.flush().await.unwrap();
    assert!(
        timeout(Duration::from_millis(100), here.sender().acknowledged())
            .await
            .is_err(),
        "nobody has read it"
    );
    let mut taken = [0; 4];
    there.read_exact(&mut taken).await.unwrap();
    // The reader answers when it looks for more.
    let (acknowledged, more) = tokio::join!(
        soon("the acknowledgement", here.sender().acknowledged()),
        timeout(Duration::from_millis(200), there.read(&mut taken))
    );
    acknowledged.unwrap();
    assert!(more.is_err(), "there is no more");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_back_its_writer_and_no_other_stream() {
    let window = StreamOptions { window: 64 << 10 };
    let mut pair = Pair::with_window(Over::Tcp, window).await;
    let (mut stuck, mut unread) = pair.stream().await;
    let (mut free, mut read) = pair.stream().await;
    let mut written = 0;
    let chunk = [1; 1_000];
    while let Ok(result) = timeout(Duration::from_millis(100), stuck.sender().write(&chunk)).await {
        written += result.unwrap();
    }
    assert!(written > 32 << 10 && written < 64 << 10, "{written} bytes");
    // One byte at a time fills the window long before the bytes do.
    let mut small = 0;
    let (mut third, _unread) = pair.stream().await;
    while timeout(Duration::from_millis(100), third.sender().write(&[1]))
        .await
        .is_ok()
    {
        small += 1;
    }
    assert!((500..=1_024).contains(&small), "{small} messages");
    let mut answer = [0; 4];
    free.write_all(b"free").await.unwrap();
    soon("the other stream", read.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"free");
    // Once it is read, the writer goes on.
    let mut all = vec![0; written];
    unread.read_exact(&mut all).await.unwrap();
    soon("credit", stuck.write_all(&chunk)).await.unwrap();
}

#[tokio::test]
async fn a_half_that_is_dropped_is_told_to_the_other_after_what_came_before() {
    let mut pair = Pair::over(Over::Shm).await;
    let (here, mut there) = pair.stream().await;
    let (mut writer, reader) = here.split();
    writer.write_all(b"half of it").await.unwrap();
    drop(writer);
    let mut got = Vec::new();
    let error = soon("the break", there.read_to_end(&mut got)).await.unwrap_err();
    assert_eq!(got, b"half of it");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted, "{error}");
    drop(reader);
    let stopped = async {
        loop {
            match there.sender().write(&[0; 1_000]).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        }
    };
    assert_eq!(soon("the stop", stopped).await, StreamError::Stopped);
    assert_eq!(pair.a.dead_letters().count() + pair.b.dead_letters().count(), 0);
}

#[tokio::test]
async fn a_stream_nobody_listens_for_is_refused_and_so_is_one_that_is_turned_away() {
    let mut pair = Pair::over(Over::Tcp).await;
    let options = StreamOptions::default();
    let error = pair.to_b.open_stream("nobody", options).await.unwrap_err();
    assert!(matches!(error, OpenError::NobodyListens { .. }), "{error}");
    let error = pair.to_b.open_sender(&"x".repeat(250)).await.unwrap_err();
    assert!(matches!(error, OpenError::BadName { len: 250, .. }), "{error}");
    let (opened, ()) = tokio::join!(pair.to_b.open_stream("echo", options), async {
        drop(pair.listener.accept().await.unwrap());
    });
    assert_eq!(opened.unwrap_err(), OpenError::Refused);
    // Asked for, and the listener goes away before it was accepted.
    let (opened, ()) = tokio::join!(pair.to_b.open_stream("echo", options), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(pair.listener);
    });
    assert!(
        matches!(opened, Err(OpenError::NobodyListens { .. })),
        "{opened:?}"
    );
    assert_eq!(pair.a.dead_letters().count(), 0);
}

#[tokio::test]
async fn a_link_that_is_cut_breaks_no_stream() {
    let mut pair = Pair::over(Over::Tcp).await;
    let (here, there) = pair.stream().await;
    let (mut writer, _) = here.split();
    let (_, mut reader) = there.split();
    let total = 8 << 20;
    let peer = pair.to_b.clone();
    let cutting = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            peer.cut_link();
        }
    };
    let writing = async {
        writer.write_all(&pattern(0, total)).await.unwrap();
        writer.finish().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, _, read) = tokio::join!(cutting, writing, soon("all of it", reader.read_to_end(&mut got)));
    read.unwrap();
    assert!(got == pattern(0, total));
}

//! Small writes, which leave with what follows them, or by themselves.

use std::io::IoSlice;
use std::task::Context;

use tests::over::Over;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{PATIENCE, Pair, pattern, soon};

#[tokio::test]
async fn small_writes_without_a_pause_arrive_though_nothing_is_written_after_them() {
    const LEN: usize = 10;
    let mut pair = Pair::over(Over::Tcp).await;
    let (here, there) = pair.stream().await;
    let ((mut writer, _reader), (_far_writer, mut far_reader)) = (here.split(), there.split());
    // None of them waits, so all but the first two are left to the task that drives the node.
    for number in 0..1_000 {
        let bytes = pattern(number * LEN, LEN);
        let (head, rest) = bytes.split_at(3);
        let pieces = [IoSlice::new(head), IoSlice::new(rest)];
        assert_eq!(writer.write_vectored(&pieces).await.unwrap(), LEN);
    }
    let mut all = vec![0; 1_000 * LEN];
    soon("all of it", far_reader.read_exact(&mut all)).await.unwrap();
    assert!(all == pattern(0, all.len()));
}

/// Half of something, written where the caller says; then the other half or nothing. What was begun arrives in any case.
async fn what_was_begun_arrives(over: Over) {
    let mut pair = Pair::over(over).await;
    let (stream, reading) = pair.stream().await;
    let (mut writer, _back) = stream.split();
    let (_echo, mut reader) = reading.split();
    for round in 0..200_u8 {
        let begun = [round; 40];
        let begin = |context: &mut Context<'_>| writer.poll_write_begun(context, &[IoSlice::new(&begun)]);
        let written = std::future::poll_fn(begin).await.unwrap();
        assert_eq!(written, begun.len());
        if round % 2 == 0 {
            writer.write_all(&[round; 24]).await.unwrap();
        }
        let mut came = vec![0; if round % 2 == 0 { 64 } else { 40 }];
        soon("what was begun", reader.read_exact(&mut came))
            .await
            .unwrap();
        assert!(came.iter().all(|&byte| byte == round));
    }
}

#[tokio::test]
async fn what_was_begun_arrives_over_tcp() {
    what_was_begun_arrives(Over::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_on_a_thread_of_the_runtime_arrives_over_tcp() {
    // The test's own task is on none of them.
    tokio::spawn(what_was_begun_arrives(Over::Tcp)).await.unwrap();
    what_was_begun_arrives(Over::Tcp).await;
}

#[tokio::test]
async fn what_was_begun_arrives_over_shm() {
    what_was_begun_arrives(Over::Shm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_leaves_before_its_thread_blocks() {
    let mut pair = Pair::over(Over::Tcp).await;
    let (stream, reading) = pair.stream().await;
    let (mut writer, _back) = stream.split();
    let (_echo, mut reader) = reading.split();
    let (tell, told) = std::sync::mpsc::channel();
    let writing = tokio::spawn(async move {
        let begin = |context: &mut Context<'_>| writer.poll_write_begun(context, &[IoSlice::new(b"begun")]);
        std::future::poll_fn(begin).await.unwrap();
        // Ends only once the reader has it.
        tokio::task::block_in_place(|| told.recv_timeout(PATIENCE)).unwrap();
    });
    let mut came = [0; 5];
    soon("what was begun", reader.read_exact(&mut came))
        .await
        .unwrap();
    assert_eq!(&came, b"begun");
    tell.send(()).unwrap();
    writing.await.unwrap();
}

#[tokio::test]
async fn what_is_flushed_or_ended_leaves_though_its_thread_goes_on() {
    let mut pair = Pair::over(Over::Tcp).await;
    let (stream, reading) = pair.stream().await;
    let (mut writer, _back) = stream.split();
    let (tell, told) = std::sync::mpsc::channel();
    // The other node has a thread of its own, and so has who reads from it.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_echo, mut reader) = reading.split();
            let mut came = [0; 50];
            reader.read_exact(&mut came).await.unwrap();
            tell.send(()).unwrap();
            assert_eq!(reader.read(&mut came).await.unwrap(), 5);
            assert_eq!(reader.read(&mut came).await.unwrap(), 0);
            tell.send(()).unwrap();
        });
    });
    for _ in 0..5 {
        writer.write_all(&[7; 10]).await.unwrap();
        writer.flush().await.unwrap();
    }
    // Blocks the only thread of the runtime, which drives the node.
    told.recv_timeout(PATIENCE).expect("what was flushed arrives");
    writer.write_all(b"more!").await.unwrap();
    writer.shutdown().await.unwrap();
    told.recv_timeout(PATIENCE).expect("the end arrives");
}

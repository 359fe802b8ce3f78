//! Streams between nodes: as bytes, as frames, many at once, and what each half sees when the other, the link or the
//! whole peer goes away.

use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tests::over::Over;
use tests::process::{OtherProcess, Role};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transport::stream::{IncomingKind, OpenError, Stream, StreamError, StreamListener, StreamOptions};
use transport::{MailboxOptions, Node, Peer, Timing, Wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// For nodes that are driven by the test's own task: it may work for a while between two turns of the node.
const PATIENT: Timing = Timing {
    heartbeat: Duration::from_millis(500),
    silence: PATIENCE,
    resume_window: PATIENCE,
    better_link: Duration::from_secs(1),
};

/// Anything that should happen happens in time.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

struct Pair {
    a: Node,
    b: Node,
    to_b: Peer,
    listener: StreamListener,
}

impl Pair {
    /// Two nodes, one with a thread of its own, one driven by tokio.
    async fn over(over: Over) -> Pair {
        Pair::with_window(over, StreamOptions::default()).await
    }

    async fn with_window(over: Over, options: StreamOptions) -> Pair {
        let builder = |name| over.builder(name).timing(PATIENT);
        let b = builder("b").listen(&over.free_address()).start().unwrap();
        let a = builder("a").wait(Wait::Park).start_on_tokio().unwrap();
        let to_b = a.connect_async(&b.addresses()[0]).await.unwrap();
        let listener = b.listen_streams("echo", options).unwrap();
        Pair { a, b, to_b, listener }
    }

    async fn stream(&mut self) -> (Stream, Stream) {
        let options = StreamOptions::default();
        let (opened, accepted) = tokio::join!(
            self.to_b.open_stream("echo", options),
            self.listener.accept_stream()
        );
        (opened.unwrap(), accepted.unwrap())
    }
}

/// Bytes that tell where they belong.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

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

#[test]
fn streams_need_no_runtime_and_speak_futures_io() {
    use futures_util::io::{AsyncReadExt, AsyncWriteExt};
    /// Runs a future on this thread, polling it again and again.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future: Pin<&mut _> = pin!(future);
        let start = Instant::now();
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    let b = Over::Tcp
        .builder("b")
        .listen("tcp://127.0.0.1:0")
        .start()
        .unwrap();
    let a = Over::Tcp.builder("a").start().unwrap();
    let to_b = a.connect(&b.addresses()[0]).unwrap();
    let mut listener = b.listen_streams("echo", StreamOptions::default()).unwrap();
    let echo = std::thread::spawn(move || {
        block_on(async {
            let (mut writer, mut reader) = listener.accept_stream().await.unwrap().split();
            futures_util::io::copy(&mut reader, &mut writer).await.unwrap();
            AsyncWriteExt::close(&mut writer).await.unwrap();
        });
    });
    block_on(async {
        let stream = to_b.open_stream("echo", StreamOptions::default()).await.unwrap();
        let (mut writer, mut reader) = stream.split();
        AsyncWriteExt::write_all(&mut writer, b"to and fro")
            .await
            .unwrap();
        AsyncWriteExt::close(&mut writer).await.unwrap();
        let mut back = String::new();
        AsyncReadExt::read_to_string(&mut reader, &mut back)
            .await
            .unwrap();
        assert_eq!(back, "to and fro");
    });
    echo.join().unwrap();
}

/// The other process: listens, tells where, and sends every line back.
#[tokio::test]
async fn echo_lines_as_the_other_process() {
    let Some(role) = Role::taken() else { return };
    let over = Over::of(role.argument());
    let node = over
        .builder("other")
        .timing(PATIENT)
        .listen(role.argument())
        .start_on_tokio()
        .unwrap();
    let mut listener = node.listen_streams("echo", StreamOptions::default()).unwrap();
    role.tell(&node.addresses()[0]);
    loop {
        let (mut writer, reader) = listener.accept_stream().await.unwrap().split();
        tokio::spawn(async move {
            let mut lines = reader.lines();
            while let Ok(Some(line)) = lines.next_line().await {
                writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        });
    }
}

async fn a_killed_peer_is_an_error_at_both_halves_in_time(over: Over) {
    let mut other = OtherProcess::start("echo_lines_as_the_other_process", &over.free_address());
    let address = other.told();
    // The end of the process is not silence: its sockets are closed. After that the session waits no longer than it has to.
    let timing = Timing {
        resume_window: Duration::from_secs(3),
        ..PATIENT
    };
    let node = over
        .builder("here")
        .timing(timing)
        .wait(Wait::Park)
        .start_on_tokio()
        .unwrap();
    let peer = node.connect_async(&address).await.unwrap();
    let stream = peer.open_stream("echo", StreamOptions::default()).await.unwrap();
    let (mut writer, reader) = stream.split();
    let mut reader = tokio::io::BufReader::new(reader);
    let mut line = String::new();
    for round in 0..100 {
        writer
            .write_all(format!("line {round}\n").as_bytes())
            .await
            .unwrap();
        line.clear();
        soon("an echo", reader.read_line(&mut line)).await.unwrap();
        assert_eq!(line, format!("line {round}\n"));
    }
    let killed = Instant::now();
    other.kill();
    line.clear();
    let error = soon("the reader's error", reader.read_line(&mut line))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    let noticed = killed.elapsed();
    println!("noticed after {noticed:?}");
    let error = writer.write_all(&[0; 100]).await.unwrap_err();
    assert!(matches!(error, StreamError::SessionOver(_)), "{error}");
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StreamError::SessionOver(_)), "{error}");
}

#[tokio::test]
async fn a_killed_peer_is_an_error_at_both_halves_in_time_over_tcp() {
    a_killed_peer_is_an_error_at_both_halves_in_time(Over::Tcp).await;
}

#[tokio::test]
async fn a_killed_peer_is_an_error_at_both_halves_in_time_over_shm() {
    a_killed_peer_is_an_error_at_both_halves_in_time(Over::Shm).await;
}

#[cfg(feature = "verbs")]
mod rdma {
    use super::*;

    #[tokio::test]
    #[ignore = "needs an RDMA device: soft-roce-setup run"]
    async fn bytes_of_all_sizes_come_back_over_rdma() {
        bytes_of_all_sizes_come_back(Over::Rdma).await;
    }

    #[tokio::test]
    #[ignore = "needs an RDMA device: soft-roce-setup run"]
    async fn frames_of_all_sizes_on_several_streams_over_rdma() {
        frames_of_all_sizes_on_several_streams(Over::Rdma).await;
    }

    #[tokio::test]
    #[ignore = "needs an RDMA device: soft-roce-setup run"]
    async fn a_killed_peer_is_an_error_at_both_halves_in_time_over_rdma() {
        a_killed_peer_is_an_error_at_both_halves_in_time(Over::Rdma).await;
    }
}

//! Streams without a runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tests::over::Over;
use transport::stream::StreamOptions;

use crate::PATIENCE;

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

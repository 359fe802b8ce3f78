//! A peer whose process is killed.

use std::time::{Duration, Instant};

use tests::over::Over;
use tests::process::{OtherProcess, Role};
use tokio::io::AsyncBufReadExt;
use transport::stream::{StreamError, StreamOptions};
use transport::{Timing, Wait};

use crate::{PATIENT, soon};

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
    let mut other = OtherProcess::start("killed::echo_lines_as_the_other_process", &over.free_address());
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
#[tokio::test]
#[ignore = "needs an RDMA device: soft-roce-setup run"]
async fn a_killed_peer_is_an_error_at_both_halves_in_time_over_rdma() {
    a_killed_peer_is_an_error_at_both_halves_in_time(Over::Rdma).await;
}

//! The server: answers what asks for an answer, by stream and by mailbox.

use tokio::io::AsyncReadExt;
use transport::stream::{Stream, StreamListener, StreamOptions};
use transport::{Mailbox, MailboxOptions, Node};

use crate::traffic::{BYTES, CALL, LENGTH, Random, SERVICE, Traffic, begin};

/// Serves until its node or its runtime is gone.
pub(crate) fn serve(node: &Node, traffic: &Traffic) {
    let options = MailboxOptions {
        capacity: traffic.capacity,
        ..MailboxOptions::default()
    };
    let listen = |name| node.listen_streams(name, StreamOptions::default()).unwrap();
    tokio::spawn(accept(listen(SERVICE), answer_frames));
    tokio::spawn(accept(listen(BYTES), answer_bytes));
    let mailbox = node.mailbox(SERVICE, options).unwrap();
    tokio::spawn(answer(mailbox));
}

async fn accept<F>(mut listener: StreamListener, answer: fn(Stream, Random) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut seed = 1_000;
    while let Ok(stream) = listener.accept_stream().await {
        seed += 1;
        tokio::spawn(answer(stream, Random::new(seed)));
    }
}

async fn answer_bytes(stream: Stream, mut random: Random) {
    let (mut writer, mut reader) = stream.split();
    let mut bytes = [0; LENGTH];
    // Until the caller is gone.
    while reader.read_exact(&mut bytes).await.is_ok() {
        random.pause().await;
        if begin(&mut writer, &bytes, &mut random).await.is_err() {
            return;
        }
    }
}

async fn answer_frames(stream: Stream, mut random: Random) {
    let (mut sender, mut receiver) = stream.framed(1 << 20);
    while let Ok(Some(message)) = receiver.recv().await {
        if message[0] == CALL {
            let answer = message.to_vec();
            random.pause().await;
            if sender.send(&answer).await.is_err() {
                return;
            }
        }
    }
}

async fn answer(mut mailbox: Mailbox) {
    let mut random = Random::new(2_000);
    while let Ok(message) = mailbox.recv_async().await {
        if let Some(asker) = message.asker() {
            let answer = message.payload.to_vec();
            random.pause().await;
            let _ = asker.answer_async(&answer).await;
        }
    }
}

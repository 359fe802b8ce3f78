//! A stream that carries a node session: what `ractor_cluster` reads and writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use transport::stream::{Stream, StreamReceiver, StreamSender};

/// A two-way stream as `ractor_cluster` takes it.
pub struct SessionStream {
    stream: Stream,
    over: Option<oneshot::Sender<()>>,
}

impl SessionStream {
    /// A node session over this stream.
    pub fn new(stream: Stream) -> SessionStream {
        SessionStream { stream, over: None }
    }

    /// Tells when the node session is over.
    pub(crate) fn telling(self, over: Option<oneshot::Sender<()>>) -> SessionStream {
        SessionStream { over, ..self }
    }
}

impl ClusterBidiStream for SessionStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let SessionStream { stream, over } = *self;
        let (writer, reader) = stream.split();
        let reader = SessionReader { reader, _over: over };
        (Box::new(reader), Box::new(SessionWriter(writer)))
    }

    fn peer_label(&self) -> Option<String> {
        let peer = self.stream.peer();
        let link = peer.link().unwrap_or_else(|| "no link".into());
        Some(format!("{} over {link}", peer.node()))
    }
}

/// The half that is read. `ractor_cluster` drops it when the node session is over, which drops the sender within.
struct SessionReader {
    reader: StreamReceiver,
    _over: Option<oneshot::Sender<()>>,
}

impl AsyncRead for SessionReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.get_mut().reader), context, buffer)
    }
}

/// The half that is written. `ractor_cluster` drops it without a shutdown, and its frames say where they end, so the stream is
/// ended here, as a socket would be.
struct SessionWriter(StreamSender);

impl AsyncWrite for SessionWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().0), context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(Pin::new(&mut self.get_mut().0), context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // `ractor_cluster` flushes after each message: they leave together, once the task that writes them waits for more.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

impl Drop for SessionWriter {
    fn drop(&mut self) {
        // Without room for the end the stream is broken off, which ends the node session as well.
        let _ = self.0.poll_end(&mut Context::from_waker(Waker::noop()));
    }
}

//! A connection: what hyper reads and writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use transport::stream::Stream;

use crate::headers;

/// A connection over a stream of a session, for hyper and tonic. Dropped, it ends its direction, as a socket does.
#[derive(Debug)]
pub struct RingIo(Stream);

impl RingIo {
    pub(crate) fn new(stream: Stream) -> RingIo {
        RingIo(stream)
    }
}

/// Who is at the other end of a connection: in the extensions of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConnectInfo {
    /// The name of the peer's node.
    pub node: String,
    /// What carried its session when the connection was accepted, for people.
    pub link: Option<String>,
}

impl Connected for RingIo {
    type ConnectInfo = RingConnectInfo;

    fn connect_info(&self) -> RingConnectInfo {
        let peer = self.0.peer();
        RingConnectInfo {
            node: peer.node().to_owned(),
            link: peer.link(),
        }
    }
}

impl AsyncRead for RingIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for RingIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut self.get_mut().0;
        if let [headers] = pieces
            && headers::begin_a_message(headers)
        {
            let written = stream.sender().poll_write_begun(context, pieces);
            return written.map_err(io::Error::from);
        }
        Pin::new(stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes whenever it has written, and then lets go of its thread: what was written leaves then, together.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

impl Drop for RingIo {
    fn drop(&mut self) {
        // HTTP/2 says by itself what is whole. Without room for the end the stream is broken off.
        let _ = self.0.sender().poll_end(&mut Context::from_waker(Waker::noop()));
    }
}

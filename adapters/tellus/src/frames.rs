//! The halves of a stream: frames out, frames in.

use std::sync::Arc;

use tellus::cluster::transport::{FrameReceiver as Receives, FrameSender as Sends, TransportError};
use transport::stream::{FrameReceiver, FrameSender, StreamError, StreamReceiver, StreamSender};

use crate::session::Session;

/// The sending half of a stream of a [`crate::RingConnection`]. Keeps the connection alive.
pub struct RingFrameSender {
    frames: FrameSender,
    _session: Arc<Session>,
}

impl RingFrameSender {
    pub(crate) fn new(stream: StreamSender, session: Arc<Session>) -> RingFrameSender {
        RingFrameSender {
            frames: stream.framed(),
            _session: session,
        }
    }
}

impl Sends for RingFrameSender {
    async fn send(&mut self, frame: &[u8]) -> Result<(), TransportError> {
        self.frames.send(frame).await.map_err(failed)
    }

    async fn send_batch(&mut self, frames: &[Vec<u8>]) -> Result<(), TransportError> {
        self.frames.send_batch(frames).await.map_err(failed)
    }

    /// Returns when the peer has taken every frame out of the stream: more than receipt.
    async fn finish(&mut self) -> Result<(), TransportError> {
        self.frames.finish().await.map_err(failed)
    }
}

/// The receiving half of a stream of a [`crate::RingConnection`]. Keeps the connection alive.
pub struct RingFrameReceiver {
    frames: FrameReceiver,
    _session: Arc<Session>,
}

impl RingFrameReceiver {
    pub(crate) fn new(stream: StreamReceiver, max_frame: usize, session: Arc<Session>) -> RingFrameReceiver {
        RingFrameReceiver {
            frames: stream.framed(max_frame),
            _session: session,
        }
    }
}

impl Receives for RingFrameReceiver {
    async fn recv(&mut self) -> Result<Option<&[u8]>, TransportError> {
        self.frames.recv().await.map_err(failed)
    }
}

pub(crate) fn failed(error: StreamError) -> TransportError {
    match error {
        // How long it would have been is not waited for.
        StreamError::FrameTooLong { max } => TransportError::FrameTooLarge { len: max + 1, max },
        error => TransportError::other(error),
    }
}

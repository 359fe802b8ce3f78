//! A connection: a session of its own, with a control stream and data streams on it.

use std::sync::Arc;

use tellus::cluster::transport::{Connection, TransportError};
use tokio::sync::{Mutex, mpsc};
use transport::Peer;
use transport::stream::{Stream, StreamReceiver};

use crate::frames::{RingFrameReceiver, RingFrameSender};
use crate::session::{STREAMS, Session};

/// A connection of a [`crate::RingTransport`]. Survives the loss of its link.
pub struct RingConnection {
    session: Arc<Session>,
    /// The control stream, until it is taken.
    control: Mutex<Option<Stream>>,
    /// Data streams that the peer has opened. Ends with the session.
    data: Mutex<mpsc::UnboundedReceiver<StreamReceiver>>,
    max_frame: usize,
}

impl RingConnection {
    pub(crate) fn new(
        session: Arc<Session>,
        control: Option<Stream>,
        data: mpsc::UnboundedReceiver<StreamReceiver>,
        max_frame: usize,
    ) -> RingConnection {
        RingConnection {
            session,
            control: Mutex::new(control),
            data: Mutex::new(data),
            max_frame,
        }
    }

    /// The peer at the other end.
    pub fn peer(&self) -> &Peer {
        &self.session.0
    }

    pub(crate) fn halves(&self, stream: Stream) -> (RingFrameSender, RingFrameReceiver) {
        let (sender, receiver) = stream.split();
        (
            RingFrameSender::new(sender, self.session.clone()),
            RingFrameReceiver::new(receiver, self.max_frame, self.session.clone()),
        )
    }
}

impl Connection for RingConnection {
    type Sender = RingFrameSender;
    type Receiver = RingFrameReceiver;

    async fn accept_control(&self) -> Result<(RingFrameSender, RingFrameReceiver), TransportError> {
        let control = self.control.lock().await.take();
        let control = control.ok_or_else(|| TransportError::other("the control stream has been taken"))?;
        Ok(self.halves(control))
    }

    async fn open_data(&self) -> Result<RingFrameSender, TransportError> {
        let stream = self.session.0.open_sender(STREAMS).await;
        let stream = stream.map_err(TransportError::other)?;
        Ok(RingFrameSender::new(stream, self.session.clone()))
    }

    async fn accept_data(&self) -> Result<Option<RingFrameReceiver>, TransportError> {
        let stream = self.data.lock().await.recv().await;
        Ok(stream.map(|stream| RingFrameReceiver::new(stream, self.max_frame, self.session.clone())))
    }
}

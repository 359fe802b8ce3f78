//! Connections that peers open.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use transport::stream::{StreamListener, StreamOptions};
use transport::{Node, NodeError};

use crate::STREAMS;
use crate::io::RingIo;

/// Takes the connections that peers open on this node, for `tonic`'s `serve_with_incoming`. Once for each node.
///
/// # Errors
/// [`NodeError`]: it was called before for this node, or the node is closed.
pub fn incoming(node: &Node) -> Result<RingIncoming, NodeError> {
    // A call's answer may be as large as HTTP/2 lets it be under way on one connection: more than the least.
    let options = StreamOptions { window: WINDOW };
    Ok(RingIncoming {
        listener: node.listen_streams(STREAMS, options)?,
    })
}

/// Bytes under way in each direction of a connection.
pub(crate) const WINDOW: u32 = 1 << 20;

/// The connections that peers open, until the node is closed.
#[derive(Debug)]
pub struct RingIncoming {
    listener: StreamListener,
}

impl Stream for RingIncoming {
    type Item = io::Result<RingIo>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<RingIo>>> {
        let accepted = ready!(self.get_mut().listener.poll_accept_stream(context));
        Poll::Ready(accepted.ok().map(|stream| Ok(RingIo::new(stream))))
    }
}

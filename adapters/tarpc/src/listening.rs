//! Connections that peers open.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tarpc::tokio_serde::{Deserializer, Serializer};
use transport::stream::{StreamListener, StreamOptions};
use transport::{Node, NodeError};

use crate::{RingTransport, STREAMS};

/// Takes the connections that peers open on this node, each for a `BaseChannel` of tarpc's. Once for each node.
///
/// # Errors
/// [`NodeError`]: it was called before for this node, or the node is closed.
pub fn listen<Item, SinkItem, Codec, MakeCodec>(
    node: &Node,
    codec: MakeCodec,
) -> Result<Incoming<Item, SinkItem, Codec, MakeCodec>, NodeError>
where
    MakeCodec: Fn() -> Codec,
{
    Ok(Incoming {
        listener: node.listen_streams(STREAMS, StreamOptions::default())?,
        codec,
        gives: PhantomData,
    })
}

type Gives<Item, SinkItem, Codec> = fn() -> RingTransport<Item, SinkItem, Codec>;

/// The connections that peers open, until the node is closed.
pub struct Incoming<Item, SinkItem, Codec, MakeCodec> {
    listener: StreamListener,
    codec: MakeCodec,
    gives: PhantomData<Gives<Item, SinkItem, Codec>>,
}

impl<Item, SinkItem, Codec, MakeCodec> Stream for Incoming<Item, SinkItem, Codec, MakeCodec>
where
    Item: for<'de> Deserialize<'de>,
    SinkItem: Serialize,
    Codec: Serializer<SinkItem> + Deserializer<Item>,
    MakeCodec: Fn() -> Codec + Unpin,
{
    type Item = io::Result<RingTransport<Item, SinkItem, Codec>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let accepted = ready!(this.listener.poll_accept_stream(context));
        Poll::Ready(
            accepted
                .ok()
                .map(|stream| Ok(RingTransport::from((stream, (this.codec)())))),
        )
    }
}

impl<Item, SinkItem, Codec, MakeCodec> std::fmt::Debug for Incoming<Item, SinkItem, Codec, MakeCodec> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

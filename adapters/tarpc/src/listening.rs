//! Connections that peers open.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tarpc::tokio_serde::{Deserializer, Serializer};
use tarpc::tokio_util::codec::{LengthDelimitedCodec, length_delimited};
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
        config: LengthDelimitedCodec::builder(),
        gives: PhantomData,
    })
}

type Gives<Item, SinkItem, Codec> = fn() -> RingTransport<Item, SinkItem, Codec>;

/// The connections that peers open, until the node is closed.
pub struct Incoming<Item, SinkItem, Codec, MakeCodec> {
    listener: StreamListener,
    codec: MakeCodec,
    config: length_delimited::Builder,
    gives: PhantomData<Gives<Item, SinkItem, Codec>>,
}

impl<Item, SinkItem, Codec, MakeCodec> Incoming<Item, SinkItem, Codec, MakeCodec> {
    /// How messages are told apart, as in tarpc's own `Incoming`: how long they may be, above all. Both ends take the same.
    pub fn config_mut(&mut self) -> &mut length_delimited::Builder {
        &mut self.config
    }
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
        let made = |stream| tarpc::serde_transport::new(this.config.new_framed(stream), (this.codec)());
        Poll::Ready(accepted.ok().map(|stream| Ok(made(stream))))
    }
}

impl<Item, SinkItem, Codec, MakeCodec> std::fmt::Debug for Incoming<Item, SinkItem, Codec, MakeCodec> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
